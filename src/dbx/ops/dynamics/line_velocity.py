"""Velocity as the distance of unspliced counts from a line on spliced counts."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.dynamics.lines import Line
from dbx.ops.operator import Constant, Input, Operator, Output
from dbx.ops.values import Codes


class LineVelocity(Operator):
    """v = mu - gamma ms - offset, in units of unspliced counts for a splicing rate of 1; how lines are fitted is open.

    Trainable are gamma and the offset.
    """

    inputs: ClassVar = {
        "ms": Input(genes=True),
        "mu": Input(genes=True),
        "groups": Input(kind="codes", optional=True, missing=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "velocity": Output(),
        "gamma": Output(axis="genes", view=True),
        "offset": Output(axis="genes", view=True),
        "r2": Output(axis="genes", dtype="float64", view=True),
        "velocity_genes": Output(axis="genes", dtype="bool", view=True),
    }
    result = "velocity"
    rowwise = True
    host = True

    def __init__(
        self,
        *,
        fit_offset: bool = False,
        perc: tuple[float, ...] = (5.0, 95.0),
        min_r2: float = 0.01,
        min_ratio: float = 0.01,
        constrain_ratio: tuple[float, ...] | None = None,
        groups_for_fit: tuple[str, ...] | None = None,
    ):
        self.fit_offset = fit_offset
        self.perc = perc
        self.min_r2 = min_r2
        self.min_ratio = min_ratio
        self.constrain_ratio = constrain_ratio
        self.groups_for_fit = groups_for_fit

    @property
    def percentiles(self) -> tuple[float, ...]:
        """Those beyond which cells are used; without an offset, only the upper one."""
        return self.perc if self.fit_offset else self.perc[-1:]

    def keep(self, line: Line, chosen: np.ndarray) -> None:
        low, high = self.constrain_ratio or (-np.inf, np.inf)
        self.chosen, self.determination = Constant(chosen), Constant(line.r2)
        self.slope, self.intercept = (
            nnx.Param(as_float(np.clip(line.gamma, low, high))),
            nnx.Param(as_float(line.offset)),
        )

    def line(self, ms: Any) -> tuple[Any, Any]:
        """Slope and intercept of each gene, as NumPy arrays or on the device like ``ms``."""
        line = (self.slope[...], self.intercept[...])
        slope, intercept = map(np.asarray, line) if isinstance(ms, np.ndarray) else line
        return slope.astype(ms.dtype), intercept.astype(ms.dtype)

    @property
    def gamma(self) -> np.ndarray:
        """Slope of each gene's line: degradation rate over splicing rate."""
        return np.asarray(self.slope[...])

    @property
    def offset(self) -> np.ndarray:
        """Intercept of each gene's line."""
        return np.asarray(self.intercept[...])

    @property
    def r2(self) -> np.ndarray:
        """Coefficient of determination of each gene's line over all cells."""
        return np.asarray(self.determination[...])

    @property
    def velocity_genes(self) -> np.ndarray:
        """Whether the velocity of a gene is used."""
        return np.asarray(self.chosen[...])


def fitting_cells(groups: Codes | None, chosen: tuple[str, ...] | None, n_cells: int) -> np.ndarray:
    """Cells that lines are fitted to, an array of shape (n_cells,), bool.

    Raises
    ------
    ValueError
        A group does not exist.
    """
    if groups is None or chosen is None:
        return np.ones(n_cells, bool)
    unknown = [group for group in chosen if group not in groups.levels]
    if unknown:
        msg = f"groups_for_fit has {unknown[0]!r}, which is not one of the groups: {', '.join(groups.levels)}."
        raise ValueError(msg)
    return np.isin(np.asarray(groups.codes), [groups.levels.index(group) for group in chosen])
