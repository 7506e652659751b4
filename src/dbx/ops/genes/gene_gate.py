"""A trainable gate on every gene, which starts from a ranking."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.optimize import brentq
from scipy.special import expit, ndtri

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.ops.arrays import multiply_columns
from dbx.ops.checks import check_above_zero, check_at_least, check_known
from dbx.ops.genes.highly_variable import HighlyVariable
from dbx.ops.nn import hard_concrete
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Unit, silent

METHODS = ("top_k", "l0")
EXCHANGED = 1.0
"""Genes outside the best that noise opens in a minibatch at the start, as a fraction of ``n_genes``."""
OPEN_START, MAX_OPEN_OTHERS = 0.98, 0.3
"""Initial probability, with noise, that the L0 gate of a chosen gene is not zero, and its maximum for the others."""
STEPS = {"top_k": 15.0, "l0": 4.0}
"""Step size of the scores: at a learning rate of .001, this many thousandths of their spread."""
SPREADS = 10.0
"""Moving ``n_genes`` scores by this many spreads is a distance of 1, so that genes change before loadings do."""


class GeneGate(Operator):
    """``x * gate``: genes with a closed gate are zero. A selection of genes that training can change.

    ``top_k``: the gates of the ``n_genes`` highest scores are 1, all others 0; the gradient is that of sigmoids
    centred on the threshold (straight-through). ``l0``: each score is the ``log_alpha`` of a hard concrete gate, and
    the number of open gates is learned. ``order`` has the indices of the genes from best to worst; without it, they are
    ranked by Seurat's normalised dispersion of ``x``.

    New cells: the genes chosen on the reference, the others zero.
    """

    name = "gene_gate"
    inputs: ClassVar = {"x": Input(genes=True)}
    outputs: ClassVar = {
        "x": Output(dtype=None),
        "open": Output(axis="genes", dtype="bool", view=True),
        "score": Output(axis="genes", dtype="float32", view=True),
    }
    rowwise = True
    role = "gate"
    sparse = True

    def __init__(
        self,
        *,
        n_genes: int = 200,
        method: Literal["top_k", "l0"] = "top_k",
        temperature: float | None = None,
        order: tuple[int, ...] | None = None,
    ):
        check_at_least(n_genes, 1, "n_genes")
        check_known(method, METHODS, "method")
        if temperature is not None:
            check_above_zero(temperature, "temperature")
        self.n_genes, self.method, self.temperature, self.order = n_genes, method, temperature, order

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Rank the genes and open the gates of the best."""
        if self.n_genes > x.n_columns:
            msg = f"n_genes={self.n_genes} is more than the {x.n_columns} genes of the data."
            raise ValueError(msg)
        order = best_first(seurat_dispersion(x)) if self.order is None else np.asarray(self.order)
        if not np.array_equal(np.sort(order), np.arange(x.n_columns)):
            msg = f"The order of genes must name each of the {x.n_columns} once."
            raise ValueError(msg)
        start = np.empty(x.n_columns)
        start[order] = normal_scores(x.n_columns)
        temperature = self._temperature(start)
        if self.method == "l0":
            n_shut = max(x.n_columns - self.n_genes, 1)
            probability = np.full(x.n_columns, min(EXCHANGED * self.n_genes / n_shut, MAX_OPEN_OTHERS))
            probability[order[: self.n_genes]] = OPEN_START
            start = hard_concrete.log_alpha_of(probability, temperature)
        self.scores = nnx.Param(jnp.asarray(start, jnp.float32))
        self.softness = Constant(jnp.float32(temperature))

    def _temperature(self, start: np.ndarray) -> float:
        if self.temperature is not None:
            return self.temperature
        return hard_concrete.TEMPERATURE if self.method == "l0" else exchanging_temperature(start, self.n_genes)

    def __call__(self, x) -> dict[str, Any]:
        """The genes chosen on the reference, the others zero."""
        return {"x": multiply_columns(x, self._gate())}

    def jitter(self, key) -> dict[str, Any]:
        """Logistic noise: each gate is then open with the probability whose gradient is used."""
        scale = self.softness[...] if self.method == "top_k" else 1.0
        return {"scores": scale * hard_concrete.noise(key, self.scores[...].shape)}

    def expected_open(self):
        """Expected fraction of open gates with noise."""
        if self.method == "top_k":
            msg = f'method="top_k" always has {self.n_genes} open genes; use method="l0" to learn the number.'
            raise ValueError(msg)
        return hard_concrete.probability_open(self.scores[...], self.softness[...]).mean()

    @property
    def units(self) -> dict[str, Unit]:
        """The unit is the spread of the scores, or the distance between a closed and an open gate."""
        spread = 1.0 if self.method == "top_k" else 2 * hard_concrete.edge(float(self.softness[...]))
        distance = SPREADS * self.n_genes**0.5
        return {"scores": Unit(spread * distance, STEPS[self.method] / distance)}

    def _gate(self):
        if self.method == "top_k":
            return top_k_gate(self.scores[...], self.n_genes, self.softness[...])
        return hard_concrete.gate(self.scores[...], self.softness[...])

    @property
    def open(self) -> np.ndarray:
        """Array of shape (n_genes,), bool."""
        return np.asarray(self._gate()) > 0

    @property
    def score(self) -> np.ndarray:
        """Array of shape (n_genes,): quantiles of the normal distribution at the start, or ``log_alpha``."""
        return np.asarray(self.scores[...])


@partial(jax.jit, static_argnums=1)
def top_k_gate(scores, k: int, temperature: float | jax.Array):
    """1 for the ``k`` highest scores, else 0, with the gradient of :func:`soft_gate` (straight-through)."""
    soft = soft_gate(scores, k, temperature)
    hard = jnp.zeros_like(scores).at[jax.lax.top_k(scores, k)[1]].set(1)
    return hard + (soft - jax.lax.stop_gradient(soft))


def soft_gate(scores, k: int, temperature: float | jax.Array):
    """The surrogate of the gradient: sigmoids of the distance to the threshold between open and closed gates.

    Genes compete: the threshold moves with the scores such that the sum of the gates is constant.
    """
    inside = jax.lax.top_k(jax.lax.stop_gradient(scores), min(k + 1, len(scores)))[0]
    edge = (inside[k - 1] + inside[-1]) / 2
    gates = jax.nn.sigmoid((scores - edge) / temperature)
    slopes = jax.lax.stop_gradient(gates * (1 - gates))
    moves = jnp.vdot(slopes, scores - jax.lax.stop_gradient(scores)) / jnp.maximum(slopes.sum(), 1e-12)
    return jax.nn.sigmoid((scores - edge - moves) / temperature)


def normal_scores(n: int) -> np.ndarray:
    """Quantiles of the standard normal distribution in descending order: ranks with standard deviation 1."""
    return -ndtri((np.arange(n) + 0.5) / n)


def exchanging_temperature(scores: np.ndarray, k: int) -> float:
    """Temperature at which the sigmoids below the threshold sum to ``EXCHANGED * k``, or a quarter of their number."""
    ordered = np.sort(scores)[::-1]
    if k >= len(ordered):
        return 1.0
    below = ordered[k:] - (ordered[k - 1] + ordered[k]) / 2
    wanted = min(EXCHANGED * k, len(below) / 4)
    return float(np.exp(brentq(lambda t: expit(below / np.exp(t)).sum() - wanted, -20, 20)))


def best_first(values: np.ndarray) -> np.ndarray:
    """Genes by descending value, ties in their order, NaN last."""
    return np.argsort(np.where(np.isnan(values), np.inf, -values), kind="stable")


def seurat_dispersion(x: RowBlocks) -> np.ndarray:
    """Normalised dispersion of each gene, from logarithms of normalised counts.

    Raises
    ------
    ValueError
        There are values below zero, or too large for logarithms.
    """
    if (moments(x, transform=_below_zero).total < 0).any():
        msg = (
            "Genes are ranked by the dispersion of logarithms, but there are values below zero. Run "
            'dbx.pp.highly_variable_genes(adata) before scaling and pass by="dispersions_norm", or another column.'
        )
        raise ValueError(msg)
    ranking = HighlyVariable()
    ranking.fit(x=x)
    return np.asarray(ranking.dispersions_norm[...])


def _below_zero(values: np.ndarray) -> np.ndarray:
    return np.minimum(values, 0)
