"""Standardise genes."""

from __future__ import annotations

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.ops.arrays import divide_columns, subtract_columns, where_rows
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Codes


class Scale(Operator):
    """z = (x - mean) / standard deviation of each gene, clipped at ``max_value``; a query uses the reference's.

    With a mask only its cells are used and changed. A gene that does not vary is divided by 1. Without centring zeros
    stay zeros and only large values are clipped.

    New cells: the reference's means and standard deviations.
    """

    name = "scale"
    inputs = {"x": Input(genes=True), "mask": Input(kind="columns", optional=True, of_fitted_cells=True)}
    outputs = {
        "x": Output(dtype=None, content="scaled"),
        "mean": Output(axis="genes", dtype="float64", view=True),
        "std": Output(axis="genes", dtype="float64", view=True),
    }
    rowwise = True
    host = True

    def __init__(self, *, zero_center: bool = True, max_value: float | None = None):
        self.zero_center = zero_center
        self.max_value = max_value
        self.sparse = not zero_center

    def fit(self, *, x: RowBlocks, mask=None, seed: int = 0, progress: Progress = silent) -> None:
        """Compute each gene's mean and unbiased standard deviation."""
        codes = None if mask is None else np.where(flags(mask), 0, -1)
        if codes is not None and not (codes == 0).any():
            msg = "scale has no cells to fit: the mask is False everywhere."
            raise ValueError(msg)
        genes = moments(x, codes)
        std = np.sqrt(genes.variance[0])
        self.mean = Constant(genes.mean[0])
        self.std = Constant(np.where(std == 0, 1.0, std))

    def __call__(self, x, mask=None):
        centred = subtract_columns(x, self.mean[...]) if self.zero_center else x
        lowest = -self.max_value if self.zero_center and self.max_value is not None else None
        scaled = divide_columns(centred, self.std[...], lowest, self.max_value)
        return {"x": scaled if mask is None else where_rows(flags(mask), scaled, x)}

    def undone(self, x: np.ndarray) -> np.ndarray:
        """Values before; NaN for those that were clipped."""
        values = x * np.asarray(self.std[...])
        if self.zero_center:
            values = values + np.asarray(self.mean[...])
        return values if self.max_value is None else np.where(np.abs(x) < self.max_value, values, np.nan)


def flags(mask: dict[str, Codes | np.ndarray]):
    """The one boolean column of a mask, an array of shape (n_cells,), bool."""
    (column,) = mask.values()
    if not isinstance(column, Codes):
        return column > 0
    true = [level in ("True", "1") for level in column.levels]
    return (column.codes[:, None] == np.flatnonzero(true)).any(axis=1)
