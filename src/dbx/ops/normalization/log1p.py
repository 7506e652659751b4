"""Logarithm of one plus the value."""

from __future__ import annotations

from dbx.data.blocks import RowBlocks
from dbx.ops import arrays as rows
from dbx.ops.operator import Input, Operator, Output, Progress, silent


class Log1p(Operator):
    """x -> log(1 + x), to any base; no parameters.

    New cells: the same function; it has no parameters.
    """

    name = "log1p"
    inputs = {"x": Input(genes=True, content=("counts", "normalized", "log"))}
    outputs = {"x": Output(dtype=None, content="log")}
    rowwise = True
    sparse = True
    host = True

    def __init__(self, *, base: float | None = None):
        self.base = base

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Nothing to fit."""

    def __call__(self, x):
        return {"x": rows.log1p(x, self.base)}
