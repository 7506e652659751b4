"""Labels from the vector of a cell and its values, by penalised regression."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import sparse

from dbx.ops.annotation.multinomial import fit_multinomial
from dbx.ops.arrays import as_float, balanced_weights
from dbx.ops.nn.mlp import Linear
from dbx.ops.operator import Constant

C = 0.1
"""Inverse of the ridge penalty, as in scikit-learn, on features whose variances add up to the number of genes."""
MAX_ITER = 500


class Classifier(nnx.Module):
    """Multinomial logistic regression on the vector of a cell beside the signals of its genes.

    Both are standardised and have the same total variance: the few entries of the vector know what thousands of cells
    have in common, the many genes what tells apart types that pre-training has not noticed.
    """

    def __init__(self):
        self.linear = Linear()

    def reset(self, features: np.ndarray, n_cell: int, n_classes: int) -> None:
        """Scale features by those of all cells, an array of shape (n_cells, n_cell + n_genes)."""
        sd = features.std(axis=0)
        weight = np.ones(features.shape[1])
        weight[:n_cell] = np.sqrt((features.shape[1] - n_cell) / n_cell)
        self.centre = Constant(as_float(features.mean(axis=0)))
        self.scale = Constant(as_float(np.where(sd > 1e-6, weight / np.where(sd > 1e-6, sd, 1), 0)))
        self.linear.reset(np.random.default_rng(0), features.shape[1], n_classes)

    def scaled(self, features):
        """Standardised features."""
        return (features - self.centre[...]) * self.scale[...]

    def regress(self, features: np.ndarray, codes: np.ndarray) -> None:
        """Fit to labelled cells, each class with the same weight."""
        scaled = sparse.csr_matrix(np.asarray(self.scaled(features), np.float64))
        weights = balanced_weights(codes) / len(codes)
        kernel, bias = fit_multinomial(scaled, codes, weights, 1 / (C * len(codes)), max_iter=MAX_ITER)
        self.linear.kernel, self.linear.bias = nnx.Param(as_float(kernel)), nnx.Param(as_float(bias))

    def __call__(self, cell, signals):
        """Unnormalised log-probabilities, an array of shape (n_cells, n_classes)."""
        return self.linear(self.scaled(jnp.concatenate([cell, signals], axis=1)))
