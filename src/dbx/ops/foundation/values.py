"""What a gene's count in a cell says: a signal, centred for the gene, and features."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.nn.mlp import Linear
from dbx.ops.operator import Constant
from dbx.ops.tokens.soft_ranks import soft_ranks

VALUES = ("rank", "bins", "count", "both")
N_FEATURES = 16
N_BINS = 24
SCALE = 1e4
"""Total of a cell for binned values."""
THETA = 10.0
"""Inverse dispersion of the residuals."""
HIGHEST = 10.0
SOFTNESS = 0.1
"""Temperature of ranks."""


class ValueEmbedding(nnx.Module):
    """Features of the counts of a cell's visible genes, by their rank, their bin, or themselves.

    The signal is how much more of the gene there is than in other cells: for counts the residual of the model of gene
    means, for ranks and bins their deviation from the gene's mean.
    """

    def __init__(self, kind: str):
        self.kind = kind
        if kind in ("count", "both"):
            self.of_count, self.then_count = Linear(), Linear()
        if kind in ("rank", "both"):
            self.of_rank, self.then_rank = Linear(), Linear()

    def reset(self, rng: np.random.Generator, weight: np.ndarray) -> None:
        """Draw the parameters; ``weight`` is one over the typical value of each gene, for ranks."""
        n_genes = len(weight)
        if self.kind in ("count", "both"):
            self.of_count.reset(rng, 4, N_FEATURES)
            self.then_count.reset(rng, N_FEATURES, N_FEATURES)
        if self.kind in ("rank", "both"):
            self.of_rank.reset(rng, 2, N_FEATURES)
            self.then_rank.reset(rng, N_FEATURES, N_FEATURES)
            self.weight = Constant(as_float(weight))
        if self.kind == "bins":
            self.bins = nnx.Param(as_float(rng.normal(0, 0.3, (N_BINS, N_FEATURES))))
        if self.kind in ("rank", "bins"):
            self.centre, self.spread = Constant(as_float(np.zeros(n_genes))), Constant(as_float(np.ones(n_genes)))

    def settle(self, mean: np.ndarray, sd: np.ndarray) -> None:
        """Centre signals of ranks and bins on their means over cells."""
        if self.kind in ("rank", "bins"):
            self.centre, self.spread = Constant(as_float(mean)), Constant(as_float(np.maximum(sd, 1e-3)))

    def __call__(self, x, visible, expected):
        """(signal, features), of shapes (n_cells, n_genes) and (n_cells, n_genes, N_FEATURES).

        ``visible`` is 1 for genes that are seen and else 0, ``expected`` the counts by gene means.
        """
        if self.kind in ("count", "both"):
            residual = (x - expected) / jnp.sqrt(expected + expected**2 / THETA)
            signal = jnp.arcsinh(jnp.clip(residual, -HIGHEST, HIGHEST))
            log = jnp.log1p(x)
            known = jnp.stack([signal, log - jnp.log1p(expected), log, x / (1 + x)], axis=-1)
            features = self.then_count(jax.nn.gelu(self.of_count(known)))
            if self.kind == "count":
                return signal, features
            return signal, features + self._of_ranks(self._ranks(x, visible))
        if self.kind == "rank":
            rank = self._ranks(x, visible)
            return self._signal(-rank), self._of_ranks(rank)
        height = self._heights(x, visible)
        return self._signal(height), self._of_bins(height)

    def raw(self, x, visible):
        """Ranks or heights before they are centred, an array of shape (n_cells, n_genes)."""
        return -self._ranks(x, visible) if self.kind == "rank" else self._heights(x, visible)

    def _signal(self, raw):
        return jnp.clip((raw - self.centre[...]) / self.spread[...], -HIGHEST, HIGHEST)

    def _ranks(self, x, visible):
        """Rank over the number of visible genes; genes without counts share the mean of the last ranks."""
        number = jnp.maximum(visible.sum(axis=1, keepdims=True), 1)
        return soft_ranks(x * self.weight[...], visible > 0, SOFTNESS) / number

    def _of_ranks(self, rank):
        known = jnp.stack([rank, jnp.log(rank + 1e-2)], axis=-1)
        return self.then_rank(jax.nn.gelu(self.of_rank(known)))

    @staticmethod
    def _heights(x, visible):
        total = jnp.maximum((x * visible).sum(axis=1, keepdims=True), 1)
        return jnp.log1p(x / total * SCALE)

    def _of_bins(self, height):
        """Embeddings of logarithmic bins, interpolated between their middles so that no count is at an edge."""
        place = jnp.clip(height / np.log1p(SCALE) * (N_BINS - 1), 0, N_BINS - 1.001)
        below = jnp.floor(place).astype(jnp.int32)
        share, bins = (place - below)[..., None], self.bins[...]
        return bins[below] * (1 - share) + bins[below + 1] * share
