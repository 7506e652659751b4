"""A weight of each cell by how far its quality metrics are from the median, in median absolute deviations."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy.special import expit

from dbx.ops.checks import check_above_zero
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Text, Unit, silent, text_of
from dbx.ops.values import Codes, Frame

TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution per median absolute deviation."""
SIDES = {"both": (-1, 1), "low": (-1,), "high": (1,)}
"""Direction -> sides on which a value is an outlier: -1 below, 1 above."""
FAR = -1e4
"""Margin of a cell without a value: its weight is 0."""


class QCWeights(Operator):
    """weight = product over metrics of sigmoid((nmads - abs(z)) / softness).

    z is the distance from the median in units of 1.4826 median absolute deviations, within a batch, of the metric or
    its log1p; one-sided metrics only count on one side. A cell passes where every abs(z) is at most nmads. The
    thresholds are trainable. A cell without a value has weight 0 and does not pass.

    New cells: the thresholds of their batch on the reference; cells of a new batch, or of none, have those of all
    reference cells together.
    """

    name = "qc_weights"
    inputs = {
        "metrics": Input(kind="columns", missing=True),
        "batch": Input(kind="codes", optional=True, missing=True, unseen="missing"),
    }
    outputs = {
        "weight": Output(),
        "passed": Output(dtype="bool"),
        "thresholds": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True
    host = True
    unlisted = frozenset({"names"})

    def __init__(
        self,
        *,
        names: tuple[str, ...],
        nmads: float = 3.0,
        softness: float = 0.25,
        log1p: tuple[str, ...] = (),
        directions: tuple[tuple[str, str], ...] = (),
    ):
        check_above_zero(nmads, "nmads")
        check_above_zero(softness, "softness")
        self.names, self.nmads, self.softness = names, nmads, softness
        self.log1p = log1p
        """Metrics of which logarithms are taken."""
        self.directions = directions
        """Pairs of a metric and its direction where this is not both."""

    @property
    def sides(self) -> list[tuple[int, int]]:
        """(metric, side) of each threshold."""
        known = dict(self.directions)
        return [(i, side) for i, name in enumerate(self.names) for side in SIDES[known.get(name, "both")]]

    def fit(
        self, *, metrics: Mapping[str, Any], batch: Codes | None = None, seed: int = 0, progress: Progress = silent
    ) -> None:
        """Find median and deviation of each metric in each batch, and of all cells together in the last row."""
        values = self._values(metrics)
        levels = () if batch is None else batch.levels
        groups = [np.asarray(batch.codes) == i for i in range(len(levels))] if batch is not None else []
        titles = [f"batch {level!r}" for level in levels]
        centre, scale = zip(
            *(self._centre(values[group], title) for group, title in zip(groups, titles, strict=True)),
            self._centre(values, "all cells"),
            strict=True,
        )
        self.levels = Text(json.dumps(list(levels)))
        self.centre, self.scale = Constant(np.stack(centre)), Constant(np.stack(scale))
        columns = [i for i, _ in self.sides]
        signs = np.array([side for _, side in self.sides])
        bounds = self.centre[...][:, columns] + signs * self.nmads * self.scale[...][:, columns]
        self.bounds = nnx.Param(jnp.asarray(bounds, jnp.float32))
        # what training adds to the thresholds is float32, the thresholds themselves are not
        self.exact = Constant(np.asarray(bounds))
        self.rounded = Constant(np.asarray(self.bounds[...]))

    def __call__(self, metrics, batch=None):
        values = self._values(metrics)
        on_host = isinstance(values, np.ndarray) and not isinstance(self.bounds[...], jax.core.Tracer)
        backend, sigmoid = (np, expit) if on_host else (jnp, jax.nn.sigmoid)
        row = -1 if batch is None else batch.codes  # of no known batch: the last row
        columns = np.array([i for i, _ in self.sides])
        signs = np.array([side for _, side in self.sides])
        scale, bounds = self.scale[...], self._bounds(np if on_host else jnp)
        margins = signs * (bounds[row] - values[:, columns]) / scale[row][..., columns]
        margins = backend.where(backend.isnan(margins), FAR, margins)
        weight: Any = 1.0
        for i in range(len(self.names)):
            weight = weight * sigmoid(margins[:, columns == i].min(axis=1) / self.softness)
        return {"weight": weight, "passed": (margins >= 0).all(axis=1)}

    @property
    def thresholds(self) -> Frame:
        """Median, median absolute deviation and thresholds of each metric in each batch, in the metric's own units."""
        levels, bounds = json.loads(text_of(self.levels)), np.asarray(self._bounds(np))
        rows = (*levels, "all") if levels else ("all",)
        n_rows, n_metrics = len(rows), len(self.names)
        limits = {-1: np.full((n_rows, n_metrics), -np.inf), 1: np.full((n_rows, n_metrics), np.inf)}
        for k, (i, side) in enumerate(self.sides):
            limits[side][:, i] = self._in_own_units(bounds[:, k], i)
        centre = np.asarray(self.centre[...])
        median = np.stack([self._in_own_units(centre[:, i], i) for i in range(n_metrics)], axis=1)
        return Frame(
            {
                "batch": Codes(np.repeat(np.arange(n_rows, dtype=np.int32), n_metrics), rows),
                "metric": Codes(np.tile(np.arange(n_metrics, dtype=np.int32), n_rows), self.names),
                "median": median.ravel(),
                "mad": (np.asarray(self.scale[...]) / TO_DEVIATION).ravel(),
                "lower": limits[-1].ravel(),
                "upper": limits[1].ravel(),
            },
            rows=None,
        )

    @property
    def units(self) -> dict[str, Unit]:
        """A threshold moves in deviations of its metric."""
        columns = [i for i, _ in self.sides]
        return {"bounds": Unit(np.asarray(self.scale[...])[:, columns].astype(np.float32), 1.0)}

    def _in_own_units(self, values: np.ndarray, metric: int) -> np.ndarray:
        return np.expm1(values) if self.names[metric] in self.log1p else values

    def _bounds(self, backend):
        """The thresholds: as they were fitted in float64, with what training added to them."""
        moved = backend.asarray(self.bounds[...]) - backend.asarray(self.rounded[...])
        return backend.asarray(self.exact[...]) + moved

    def _values(self, metrics: Mapping[str, Any]):
        """Array of shape (n_cells, n_metrics) of the metrics or their logarithms."""
        columns = [metrics[name] for name in self.names]
        backend = np if all(isinstance(column, np.ndarray) for column in columns) else jnp
        return backend.stack(
            [backend.log1p(c) if name in self.log1p else c for name, c in zip(self.names, columns, strict=True)], axis=1
        )

    def _centre(self, values: np.ndarray, title: str) -> tuple[np.ndarray, np.ndarray]:
        """Median of each metric and 1.4826 times its median absolute deviation.

        Raises
        ------
        ValueError
            The deviation is zero, or there is no cell with a value.
        """
        for i, name in enumerate(self.names):
            if not len(values) or np.isnan(values[:, i]).all():
                msg = f"qc_weights: no cell of {title} has a value of {name!r}."
                raise ValueError(msg)
        centre = np.nanmedian(values, axis=0)
        deviation = np.nanmedian(np.abs(values - centre), axis=0)
        for name, middle, spread in zip(self.names, centre, deviation, strict=True):
            if not spread > 0:
                shown = np.expm1(middle) if name in self.log1p else middle
                msg = (
                    f"qc_weights: the median absolute deviation of {name!r} is 0 in {title}, since at least half of "
                    f"its cells have the value {shown:.4g}. Leave this metric out (metrics=[...]), or filter by it "
                    "with a threshold of your own."
                )
                raise ValueError(msg)
        return centre, TO_DEVIATION * deviation
