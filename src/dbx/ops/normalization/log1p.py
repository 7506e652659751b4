"""Logarithm of one plus the value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

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
    alternatives: ClassVar[tuple[Mapping[str, Any], ...]] = ({"base": None}, {"base": 2}, {"base": 10})

    def __init__(self, *, base: float | None = None):
        self.base = base

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Nothing to fit."""

    def __call__(self, x):
        return {"x": rows.log1p(x, self.base)}

    def undone(self, x: np.ndarray) -> np.ndarray:
        return np.expm1(x if self.base is None else x * np.log(self.base))
