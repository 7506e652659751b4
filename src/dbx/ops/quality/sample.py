"""Cells or genes drawn at random: a record of the settings."""

from __future__ import annotations

from typing import Any, ClassVar

from dbx.ops.operator import Operator, Progress, silent


class Sample(Operator):
    """Cells or genes that were drawn at random; it reads and writes nothing, and shows in a program that they were.

    New cells: all of them; nothing is drawn.
    """

    name = "sample"
    inputs: ClassVar = {}
    outputs: ClassVar = {}
    rowwise = True

    def __init__(
        self,
        *,
        fraction: float | None = None,
        n: int | None = None,
        replace: bool = False,
        axis: str = "obs",
        p: str | None = None,
    ):
        self.fraction, self.n, self.replace, self.axis, self.p = fraction, n, replace, axis, p

    def fit(self, *, seed: int = 0, progress: Progress = silent, **inputs: Any) -> None:
        """Nothing to fit."""
