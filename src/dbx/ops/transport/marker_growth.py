"""Growth from scores of proliferation and apoptosis genes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

from dbx.ops.arrays import array_library
from dbx.ops.checks import check_finite_columns
from dbx.ops.operator import Input, Operator, Output, Progress, silent
from dbx.ops.values import Array, Codes


class Rate(NamedTuple):
    """A logistic function of a score: its limits, the score halfway between them, and how wide its rise is."""

    low: float
    high: float
    centre: float
    width: float

    def __call__(self, score: Array) -> Array:
        """Rates per unit time."""
        xp = array_library(score)
        return self.low + (self.high - self.low) / (1 + xp.exp(-4 * (score - self.centre) / self.width))


BIRTH = Rate(0.3, 1.7, 0.25, 0.5)
DEATH = Rate(0.3, 1.7, 0.1, 0.2)
"""Waddington-OT's rates per day."""


class MarkerGrowth(Operator):
    """growth = exp(birth - death), the expected number of descendants of a cell per unit time.

    Birth and death are logistic functions of the scores of proliferation and apoptosis genes, between 0.3 and 1.7, as
    in Waddington-OT (Schiebinger et al., Cell 2019). Nothing is fitted.

    New cells: by their own scores.
    """

    name = "marker_growth"
    inputs: ClassVar = {"proliferation": Input(kind="columns"), "apoptosis": Input(kind="columns")}
    outputs: ClassVar = {"growth": Output(dtype="float64")}
    rowwise = True
    precision = "float64"

    def fit(
        self,
        *,
        proliferation: Mapping[str, Any],
        apoptosis: Mapping[str, Any],
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Check the scores; there is nothing to fit."""
        for columns in (proliferation, apoptosis):
            ((name, column),) = columns.items()
            if isinstance(column, Codes):
                msg = f"Scores of genes must be numbers; obs[{name!r}] holds text or categories."
                raise ValueError(msg)
            check_finite_columns(columns, self.name)

    def __call__(self, proliferation: Mapping[str, Any], apoptosis: Mapping[str, Any]) -> dict[str, Array]:
        (births,), (deaths,) = proliferation.values(), apoptosis.values()
        return {"growth": array_library(births).exp(BIRTH(births) - DEATH(deaths))}
