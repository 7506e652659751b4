"""Harmony: an embedding corrected for batches, cluster by cluster; new batches are mapped as Symphony does."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import as_float
from dbx.ops.batch.harmony.fit import harmonize
from dbx.ops.batch.harmony.host import corrected
from dbx.ops.batch.harmony.levels import ByLevel, numbered, ordered
from dbx.ops.batch.harmony.settings import Settings
from dbx.ops.batch.harmony.symphony import grow, new_effects
from dbx.ops.batch.harmony.tiles import unit
from dbx.ops.operator import Constant, Input, Operator, Output, frozen, silent
from dbx.ops.values import Codes


class Harmony(Operator):
    """z = x - sum over clusters of the cell's membership times the batch effect in the cluster.

    A fit keeps the centroids, batch penalties and coefficients of each iteration. The memberships of a cell follow from
    its coordinates after the iteration before, so that the fitted map works row by row and reproduces the fit.
    Trainable are the coefficients, and a common factor of all of them, the strength (initially 1).

    Parameters
    ----------
    theta
        Diversity penalty: one number, one per key (keys in the order of their names) or one per level.
    lamb
        Ridge penalty, given like ``theta``; None means ``alpha`` times the expected cells of a level in a cluster.
    sigma
        Width of the soft clusters.
    n_clusters
        Number of clusters; None means a thirtieth of the cells, at most 100.
    max_iter, max_iter_cluster
        Maximum iterations of clustering and correction, and maximum rounds of clustering in each.
    tol, tol_cluster
        Relative change of the objective below which they stop.
    tau
        Expected cells of a level per cluster below which ``theta`` is reduced; 0 is off.
    block_size
        Fraction of the cells that is reassigned at a time.
    alpha
        See ``lamb``.
    prune
        A level with less than this fraction of its cells in a cluster is not corrected there; None corrects all.
    flavor
        ``"harmony2"``, or ``"harmony1"`` for the penalty and the centroid updates of the first publication.
    dtype
        ``"float32"`` or ``"float64"``.

    New cells: the reference's clusters and corrections, as Symphony does; a new batch is fitted and recorded so.
    """

    name = "harmony"
    inputs: ClassVar = {"x": Input(), "batch": Input(kind="columns", unseen="extend", discrete=True)}
    outputs: ClassVar = {"z": Output(dtype=None, content="embedding")}
    rowwise = True

    def __init__(
        self,
        *,
        theta: float | tuple[float, ...] = 2.0,
        lamb: float | tuple[float, ...] | None = 1.0,
        sigma: float = 0.1,
        n_clusters: int | None = None,
        max_iter: int = 10,
        max_iter_cluster: int = 4,
        tol: float = 1e-2,
        tol_cluster: float = 1e-3,
        tau: float = 0.0,
        block_size: float = 0.05,
        alpha: float = 0.2,
        prune: float | None = 1e-5,
        flavor: str = "harmony2",
        dtype: Literal["float32", "float64"] = "float32",
    ):
        self.theta = frozen(theta)
        self.lamb = frozen(lamb)
        self.sigma = sigma
        self.n_clusters = n_clusters
        self.max_iter = max_iter
        self.max_iter_cluster = max_iter_cluster
        self.tol = tol
        self.tol_cluster = tol_cluster
        self.tau = tau
        self.block_size = block_size
        self.alpha = alpha
        self.prune = prune
        self.flavor = flavor
        self.dtype = self.precision = dtype
        self.strength = nnx.Param(as_float(1.0))
        self._check()

    @property
    def _settings(self) -> Settings:
        return Settings(**{field.name: getattr(self, field.name) for field in fields(Settings)})

    def fit(self, *, x: RowBlocks, batch: dict[str, Codes], seed: int = 0, progress=silent) -> None:
        """Alternate clustering and correction until the objective's relative decrease is below ``tol``."""
        with self._precise():
            fitted = harmonize(
                self._settings, x.dense().astype(self.dtype, copy=False), *numbered(batch), seed, progress
            )
            self.centroids = Constant(_stacked(fitted.centroids))
            self.log_penalty = Constant(_stacked(fitted.log_penalty))
            self.coefficients = nnx.Param(_stacked(fitted.coefficients))
            self.first = Constant(jax.device_put(np.asarray(fitted.first, np.int32)))
            self.reference_sizes = Constant(jax.device_put(fitted.sizes))
            self.reference_sums = Constant(fitted.sums)

    def __call__(self, x, batch: dict[str, Codes]) -> dict[str, jax.Array]:
        """Corrected rows, an array of shape (n_cells, n_columns); cells of unknown levels are not corrected."""
        return {"z": self.assigned(x, batch)[1]}

    def assigned(self, x, batch: dict[str, Codes]) -> tuple[jax.Array, jax.Array]:
        """Memberships of the cells in the clusters, an array of shape (n_cells, n_clusters), and the corrected rows."""
        n_levels = self.log_penalty.shape[1]
        levels = [
            jnp.where(codes.codes < 0, n_levels, start + codes.codes)
            for start, codes in zip(self.first[...], ordered(batch), strict=False)
        ]
        by_level = [ByLevel.of(level, n_levels + 1) for level in levels]

        def correct(state, found):
            centroids, penalty, effect = found
            score = unit(state[1]) @ centroids.T * (2 / self.sigma) + sum(penalty[level] for level in levels)
            shares = jax.nn.softmax(score, axis=-1)
            return (shares, x - sum(rows.times(shares, effect) for rows in by_level)), None

        nothing = [(0, 0), (0, 1), (0, 0)]
        penalty = jnp.pad(self.log_penalty[...], nothing)
        effect = jnp.pad(self.coefficients[...] * self.strength[...], [*nothing, (0, 0)])
        dtype = jnp.result_type(x, effect)
        start = jnp.zeros((len(x), penalty.shape[-1]), dtype), x.astype(dtype)
        return jax.lax.scan(correct, start, (self.centroids[...], penalty, effect))[0]

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """By NumPy, as fast as what would be compiled."""
        return {"z": corrected(self, inputs["x"], inputs["batch"])}

    def extend(self, *, x: RowBlocks, batch: dict[str, Codes], seed: int = 0, progress=silent) -> None:
        """Add coefficients of levels that were not in the fit, from the cells that have them.

        Clusters and reference are unchanged (Symphony, Kang et al., Nature Communications 2021). ``batch`` lists
        the fitted levels first in each key, then the new ones.
        """
        with self._precise():
            grown = grow(self, batch)
            self.first, self.log_penalty = Constant(jnp.asarray(grown.first)), Constant(jnp.asarray(grown.log_penalty))
            self.coefficients = nnx.Param(jnp.asarray(grown.coefficients))
            grown.coefficients[-1, grown.new] = new_effects(self, x, batch, grown.new)
            self.coefficients = nnx.Param(jnp.asarray(grown.coefficients))

    def _precise(self):
        return jax.enable_x64(True) if self.dtype == "float64" else contextlib.nullcontext()

    def _check(self):
        for name, (allowed, words) in SETTINGS.items():
            value = getattr(self, name)
            values = value if isinstance(value, tuple) else (value,)
            if not all(allowed(v) for v in values):
                msg = f"{name}={value!r} must be {words}."
                raise ValueError(msg)


def _stacked(arrays) -> jax.Array:
    return jax.device_put(np.stack(jax.device_get(arrays)))


SETTINGS = {
    "theta": (lambda v: v >= 0, "0 or more"),
    "lamb": (lambda v: v is None or v > 0, "above 0, or None to estimate it"),
    "sigma": (lambda v: v > 0, "above 0"),
    "n_clusters": (lambda v: v is None or v >= 1, "at least 1, or None for a thirtieth of the cells"),
    "max_iter": (lambda v: v >= 1, "at least 1"),
    "max_iter_cluster": (lambda v: v >= 1, "at least 1"),
    "tau": (lambda v: v >= 0, "0 or more"),
    "block_size": (lambda v: 0 < v <= 1, "above 0 and at most 1: a fraction of the cells"),
    "alpha": (lambda v: v > 0, "above 0"),
    "prune": (lambda v: v is None or 0 <= v < 1, "a fraction of a batch's cells, or None"),
    "flavor": (lambda v: v in ("harmony1", "harmony2"), '"harmony2" or "harmony1"'),
    "dtype": (lambda v: v in ("float32", "float64"), '"float32" or "float64"'),
}
"""Setting -> (check, description of valid values)."""
