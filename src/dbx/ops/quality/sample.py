"""Cells or genes drawn at random: a record of the settings."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import numpy as np

from dbx.ops.operator import Constant, Operator, Output, Progress, silent


class Sample(Operator):
    """Cells or genes that were drawn at random; it reads and writes nothing, and shows in a program that they were.

    New cells: all of them, none is drawn; drawn genes are selected by name, ``filter_cells=True`` removes the others.
    """

    name = "sample"
    inputs: ClassVar = {}
    outputs: ClassVar[Mapping[str, Output]] = {}
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

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[Operator]:
        return _of_genes() if config.get("axis") == "var" else cls

    def keep(self, drawn: np.ndarray) -> None:
        """Take the genes that were drawn, a boolean array of shape (n_genes,)."""
        self.passed = Constant(np.asarray(drawn, bool))

    def fit(self, *, seed: int = 0, progress: Progress = silent, **inputs: Any) -> None:
        """Nothing to fit."""


@cache
def _of_genes() -> type[Operator]:
    """The class of a draw of genes, which is known by which of them pass."""
    passed = Output(axis="genes", dtype="bool", view=True, passes=True)
    body = {"outputs": {"passed": passed}, "__module__": __name__, "__qualname__": Sample.__qualname__}
    return type(Sample.__name__, (Sample,), body)
