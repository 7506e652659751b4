"""Networks by attention: nodes are genes, cells are the batch (GATv2)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.minibatches import Minibatches
from dbx.ops.arrays import as_float, like
from dbx.ops.nn.graph_attention import GATv2
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Progress, silent
from dbx.ops.regulation.correlation import spearman
from dbx.ops.regulation.panel import Network, Panel
from dbx.ops.regulation.partial import partial_network, shrunk_covariance
from dbx.ops.values import Array

MOST_CANDIDATES = 50
"""Candidates of a target by each of two correlations."""
N_UNITS = 16
SMALLEST = 1e-3
"""Least coefficient of a candidate, which takes part in the attention."""
TRAINING = Training(
    epochs=100, batch_size=128, learning_rate=1e-3, weight_decay=1e-4, validation=0.1, patience=5, clip_norm=1.0
)


class RegulatorAttention(nnx.Module):
    """Predicts each target of a cell: y_g = sum_t a_gt w_gt x_t, over the candidate regulators t of gene g.

    a_gt is the attention of GATv2 between learnt embeddings of genes, as a target and as a regulator, with the target
    itself, whose part is 0, in the softmax: what no regulator explains. w_gt is the gate of the edge, so that a_gt w_gt
    is a coefficient. These start at the regression of targets on regulators with a shrunk covariance.
    """

    def __init__(self) -> None:
        self.attention = GATv2()

    def reset(self, panel: Panel, rng: np.random.Generator) -> None:
        """Draw the embeddings, and set attention and gates so that their products are the coefficients."""
        start = regression(panel)
        indices, mask = candidates(panel, start)
        n_targets = len(panel.targets)
        self.nodes = Constant(np.concatenate([panel.targets, panel.regulators]).astype(np.int32))
        self.indices, self.mask = Constant(indices), Constant(mask)
        # not one embedding for both: a regulator's own targets would be trained otherwise than those of other genes,
        # so that genes without any structure would have a network
        drawn = rng.normal(size=(n_targets + len(panel.regulators), N_UNITS)) / np.sqrt(N_UNITS)
        self.embedding = nnx.Param(as_float(drawn))
        self.attention.reset(rng, N_UNITS, N_UNITS)
        wanted = np.take_along_axis(start.T, indices, axis=1)
        strength = np.log(np.maximum(np.abs(wanted), SMALLEST))
        self.strength = nnx.Param(as_float(np.where(mask, strength, 0)))
        self.gate = nnx.Param(as_float(np.zeros(mask.shape)))
        shares = np.asarray(self.shares(), np.float64)
        self.gate = nnx.Param(as_float(np.where(mask, wanted / np.maximum(shares, 1e-12), 0)))
        self.column = Constant(np.broadcast_to(np.arange(n_targets, dtype=np.int32)[:, None], mask.shape))

    def shares(self) -> Array:
        """Attention of each target to its candidates, an array of shape (n_targets, n_candidates)."""
        senders = self.indices[...] + len(self.indices[...])
        return self.attention.attention(self.embedding[...], senders, self.mask[...], edges=self.strength[...])[
            :, 1:, 0
        ]

    def coefficients(self) -> Array:
        """Attention times gate, an array of shape (n_regulators, n_targets)."""
        product = self.shares() * self.gate[...]
        n_targets = len(product)
        zeros = jnp.zeros((len(self.nodes[...]) - n_targets, n_targets), product.dtype)
        return zeros.at[self.indices[...], self.column[...]].add(jnp.where(self.mask[...], product, 0))

    def __call__(self, x: Array) -> Array:
        """Predicted targets, an array of shape (n_cells, n_targets), for standardised genes."""
        found = self.coefficients()
        return x[:, self.nodes[...][found.shape[1] :]] @ like(found, x)


def squared_error(model: RegulatorAttention, batch, key):
    """Mean squared error over the targets of each cell."""
    x = batch["x"]
    targets = x[:, model.nodes[...][: len(model.gate[...])]]
    return ((model(x) - targets) ** 2).mean(axis=1), {}


def attention_network(panel: Panel, *, seed: int = 0, progress: Progress = silent) -> Network:
    """Attention times gate times the regulator's expression, absolute, mean over the cells.

    Trained on the cells, with a tenth held out, and stopped where their error no longer falls.
    """
    model = RegulatorAttention()
    model.reset(panel, np.random.default_rng(seed))
    data = Minibatches({"x": panel.values.astype(np.float32)})
    train(model, squared_error, data, TRAINING, seed=seed, progress=progress)
    found = np.asarray(model.coefficients(), np.float64)
    size = np.abs(panel.values[:, panel.regulators]).mean(axis=0)
    return Network(np.where(panel.itself, 0, np.abs(found) * size[:, None]), np.sign(found).astype(np.int8))


def regression(panel: Panel) -> np.ndarray:
    """Coefficients of each target on all other regulators, with a shrunk covariance: (n_regulators, n_targets)."""
    covariance = shrunk_covariance(panel.values)
    precision = np.linalg.inv(covariance[np.ix_(panel.regulators, panel.regulators)])
    found = precision @ covariance[np.ix_(panel.regulators, panel.targets)]
    itself, other = np.nonzero(panel.itself)
    found[:, other] = -precision[:, itself] / np.diagonal(precision)[itself]
    return np.where(panel.itself, 0, found)


def candidates(panel: Panel, start: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The regulators that each target may have: the first by partial or by rank correlation.

    Numbers of regulators and whether they are used, arrays of shape (n_targets, n_candidates).
    """
    n_most = min(MOST_CANDIDATES, len(panel.regulators))
    chosen = np.zeros(start.shape, bool)
    for importance in (partial_network(panel).importance, np.abs(spearman(panel))):
        first = np.argsort(-importance, axis=0, kind="stable")[:n_most]
        np.put_along_axis(chosen, first, True, axis=0)
    chosen &= ~panel.itself
    width = max(int(chosen.sum(axis=0).max()), 1)
    order = np.argsort(~chosen.T, axis=1, kind="stable")[:, :width]
    return order.astype(np.int32), np.take_along_axis(chosen.T, order, axis=1)
