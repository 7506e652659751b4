"""Where the descendants of cells are at the last time, through chained couplings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library
from dbx.ops.operator import Input, Operator, Output, Progress, Reference, silent
from dbx.ops.transport.extension import shares_of
from dbx.ops.transport.times import at, times_of
from dbx.ops.values import Array, Codes


class OTFates(Operator):
    """Distribution of a cell's descendants over groups of cells, through the couplings of consecutive times.

    Cells without a later time have their own group; those before have the mean of the next time's cells, weighted by
    their row of the coupling. Cells without a group at the last time do not count. ``pairs`` are (earlier time, later
    time, unit of distances, column of ``potentials``).

    New cells: the mean over the reference cells of the next time; missing at the last one.
    """

    name = "ot_fates"
    inputs: ClassVar = {
        "z": Input(),
        "potentials": Input(of_fitted_cells=True, missing=True),
        "time": Input(kind="columns"),
        "groups": Input(kind="codes", missing=True, unseen="missing", of_fitted_cells=True),
        "rows": Input(kind="rows"),
    }
    outputs: ClassVar = {"fates": Output(dtype="float64", levels=True)}
    rowwise = True
    unlisted = frozenset({"pairs"})
    host = True
    precision = "float64"
    references: ClassVar = {"points": "z", "weights": "potentials", "times": "time", "stored_fates": "fates"}

    def __init__(self, *, pairs: tuple[tuple[float, float, float, int], ...], levels: tuple[str, ...] = ()):
        self.pairs = pairs
        self.levels = levels

    @classmethod
    def config_after(cls, config: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """With the pairs of couplings that were fitted again."""
        table = results.get("potentials", {}).get("pairs")
        return config if table is None else {**config, "pairs": last_couplings(table.columns)}

    def fit(
        self,
        *,
        z: RowBlocks,
        potentials: RowBlocks,
        time: Mapping[str, Any],
        groups: Codes,
        rows: np.ndarray | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Carry the groups of the last time back to the first."""
        times, points = np.asarray(times_of(time), np.float64), z.dense().astype(np.float64)
        weights, codes = potentials.dense().astype(np.float64), np.asarray(groups.codes)
        self.levels = groups.levels
        nearest = self._nearest()
        fates = np.full((len(times), groups.n_levels), np.nan)
        last = ~np.any([at(times, first) for first in nearest], axis=0) & (codes >= 0)
        if not last.any():
            msg = "No cell of the last time has a group: name a column of obs with groups of the last time's cells."
            raise ValueError(msg)
        fates[last] = np.eye(groups.n_levels)[codes[last]]
        for first in sorted(nearest, reverse=True):
            here = at(times, first)
            fates[here] = self._carried(points, here, points, weights, times, fates, nearest[first])[here]
        self.points = Reference(points)
        self.weights = Reference(weights)
        self.times = Reference(times)
        self.stored_fates = Reference(fates)

    def _nearest(self) -> dict[float, tuple[float, float, int]]:
        """Earlier time -> (later time, unit, column) of the pair of the shortest duration."""
        found: dict[float, tuple[float, float, int]] = {}
        for first, second, unit, column in self.pairs:
            if first not in found or second < found[first][0]:
                found[first] = (second, unit, int(column))
        return found

    @staticmethod
    def _carried(z, cells, points, weights, times, fates, pair: tuple[float, float, int]) -> Array:
        xp = array_library(z)
        second, unit, column = pair
        counted = at(times, second) & xp.isfinite(fates[:, 0])
        return shares_of(z, points, xp.where(counted, weights[:, column], -xp.inf), unit, fates, cells)

    def __call__(self, z, time: Mapping[str, Any], rows, potentials=None, groups=None) -> dict[str, Any]:
        """Array of shape (n_cells, n_groups)."""
        del potentials, groups
        xp = array_library(z)
        if xp is np:
            z = z.astype(np.float64)
        times, stored = times_of(time), xp.asarray(self.stored_fates.get_value())
        found = stored[xp.maximum(rows, 0)]
        if xp is np and (rows >= 0).all():
            return {"fates": found}
        new = xp.full(found.shape, xp.nan)
        known = times_of({"time": self.times.get_value()})
        for first, pair in self._nearest().items():
            here = at(times, first)
            carried = self._carried(z, here, self.points.get_value(), self.weights.get_value(), known, stored, pair)
            new = xp.where(here[:, None], carried, new)
        return {"fates": xp.where((rows >= 0)[:, None], found, new)}


def last_couplings(pairs: Mapping[str, Any]) -> tuple[tuple[float, float, float, int], ...]:
    """(Earlier time, later time, unit of distances, column of potentials) of each row of a table of pairs."""
    units = np.asarray(pairs["scale"]) * np.asarray(pairs["epsilon"])
    columns = np.arange(len(units)) * np.asarray(pairs["n_solves"]) + np.asarray(pairs["last_round"])
    rows = zip(pairs["source"], pairs["target"], units, columns, strict=True)
    return tuple((float(first), float(second), float(unit), int(column)) for first, second, unit, column in rows)
