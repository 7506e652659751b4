"""A gate on every gene: starts at a ranking, and training chooses the genes."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.special import ndtri

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.ops import hard_concrete
from dbx.ops.highly_variable import HighlyVariable
from dbx.ops.operator import Input, Operator, Output, Progress, Unit, silent
from dbx.ops.rows import multiply_columns
from dbx.ops.settings_checks import check_above_zero, check_at_least, check_known

METHODS = ("top_k", "l0")
TEMPERATURES = {"top_k": 0.25, "l0": hard_concrete.TEMPERATURE}
OPEN_START, SHUT_START = 0.98, 0.1
"""With noise, the probability that an L0 gate is not zero at the start: of the chosen genes, and of the others."""
STEP = 5.0
"""At the usual learning rate of .001 a score moves by a two-hundredth of the spread of all scores in a step."""


class GeneGate(Operator):
    """``x * gate``: the genes whose gate is shut are zero. A selection of genes that training can change.

    ``top_k``: the gates of the ``n_genes`` highest scores are 1, all others 0; the gradient is that of a sigmoid about
    the lowest score that is in (straight-through). ``l0``: each score is the ``log_alpha`` of a hard concrete gate, and
    how many are open is learnt. ``order`` has the genes from the best to the worst, as indices; without, they are
    ranked by Seurat's normalised dispersion of ``x``.
    """

    name = "gene_gate"
    inputs: ClassVar = {"x": Input(genes=True)}
    outputs: ClassVar = {
        "x": Output(dtype=None),
        "open": Output(axis="genes", dtype="bool", view=True),
        "score": Output(axis="genes", dtype="float32", view=True),
    }
    rowwise = True
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
            msg = f"n_genes={self.n_genes} is more than the {x.n_columns} genes there are."
            raise ValueError(msg)
        order = best_first(seurat_dispersion(x)) if self.order is None else np.asarray(self.order)
        if not np.array_equal(np.sort(order), np.arange(x.n_columns)):
            msg = f"The order of genes must name each of the {x.n_columns} once."
            raise ValueError(msg)
        start = np.empty(x.n_columns)
        start[order] = normal_scores(x.n_columns)
        if self.method == "l0":
            chosen = np.isin(np.arange(x.n_columns), order[: self.n_genes])
            start = np.where(chosen, *(hard_concrete.log_alpha_of(p, self._t) for p in (OPEN_START, SHUT_START)))
        self.scores = nnx.Param(jnp.asarray(start, jnp.float32))

    def __call__(self, x) -> dict[str, Any]:
        """The genes chosen on the reference, the others zero."""
        return {"x": multiply_columns(x, self._gate())}

    def jitter(self, key) -> dict[str, Any]:
        """Logistic noise: each gate is then open with the probability that its gradient belongs to."""
        scale = self._t if self.method == "top_k" else 1.0
        return {"scores": scale * hard_concrete.noise(key, self.scores[...].shape)}

    def expected_open(self):
        """Share of gates that are open where noise is added."""
        if self.method == "top_k":
            msg = f'method="top_k" has {self.n_genes} open genes whatever is learnt; use method="l0" to learn how many.'
            raise ValueError(msg)
        return hard_concrete.probability_open(self.scores[...], self._t).mean()

    @property
    def units(self) -> dict[str, Unit]:
        """To move ``n_genes`` scores by their spread, or from shut to open, is a distance of 1."""
        spread = 1.0 if self.method == "top_k" else 2 * hard_concrete.edge(self._t)
        return {"scores": Unit(spread * self.n_genes**0.5, STEP / self.n_genes**0.5)}

    @property
    def _t(self) -> float:
        return TEMPERATURES[self.method] if self.temperature is None else self.temperature

    def _gate(self):
        if self.method == "top_k":
            return top_k_gate(self.scores[...], self.n_genes, self._t)
        return hard_concrete.gate(self.scores[...], self._t)

    @property
    def open(self) -> np.ndarray:
        """Array of shape (n_genes,), bool."""
        return np.asarray(self._gate()) > 0

    @property
    def score(self) -> np.ndarray:
        """Array of shape (n_genes,): quantiles of the normal distribution at the start, or ``log_alpha``."""
        return np.asarray(self.scores[...])


def top_k_gate(scores, k: int, temperature: float):
    """1 for the ``k`` highest scores, else 0, with the gradient of :func:`soft_gate` (straight-through)."""
    soft = soft_gate(scores, k, temperature)
    hard = jnp.zeros_like(scores).at[jax.lax.top_k(scores, k)[1]].set(1)
    return hard + (soft - jax.lax.stop_gradient(soft))


def soft_gate(scores, k: int, temperature: float):
    """The declared surrogate: sigmoid of the distance to the edge between the scores that are in and out, held fixed.

    It is the probability that a score with the noise of ``GeneGate.jitter`` is above the edge.
    """
    inside = jax.lax.stop_gradient(jax.lax.top_k(scores, min(k + 1, len(scores)))[0])
    edge = (inside[k - 1] + inside[-1]) / 2
    return jax.nn.sigmoid((scores - edge) / temperature)


def normal_scores(n: int) -> np.ndarray:
    """Quantiles of the standard normal distribution, from the highest down: ranks with a spread of 1."""
    return -ndtri((np.arange(n) + 0.5) / n)


def best_first(values: np.ndarray) -> np.ndarray:
    """Genes from the highest value to the lowest, ties in their order, NaN last."""
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
            "Genes are ranked by the dispersion of logarithms, and there are values below zero. Run "
            'dbx.pp.highly_variable_genes(adata) before scaling and say by="dispersions_norm", or name another column.'
        )
        raise ValueError(msg)
    ranking = HighlyVariable()
    ranking.fit(x=x)
    return np.asarray(ranking.dispersions_norm[...])


def _below_zero(values: np.ndarray) -> np.ndarray:
    return np.minimum(values, 0)
