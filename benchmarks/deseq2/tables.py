"""Relative differences of two columns, and Markdown tables of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

LARGEST_MEDIAN, LARGEST_999 = 1e-7, 1e-5
"""Tolerances: of the median relative error, and of the error of 99.9% of the genes."""
HEAD = ("quantity", "values", "median", "99.9%", "largest", "over 1e-5", "NA differ")


class Apart(NamedTuple):
    """Relative errors of one quantity."""

    quantity: str
    n_values: int
    median: float
    most: float
    """Of 99.9% of the values."""
    largest: float
    n_over: int
    """Values above the tolerance of 99.9%."""
    n_missing: int
    """Values that only one of the two has."""

    @property
    def is_beyond(self) -> bool:
        """Above a tolerance."""
        return self.median > LARGEST_MEDIAN or self.most > LARGEST_999 or self.n_missing > 0

    def cells(self) -> list[str]:
        """A row of the table; what is above a tolerance in bold."""
        over = [self.median > LARGEST_MEDIAN, self.most > LARGEST_999, False, False, self.n_missing > 0]
        numbers = [*(f"{error:.1e}" for error in (self.median, self.most, self.largest)), self.n_over, self.n_missing]
        marked = [f"**{text}**" if bold else str(text) for text, bold in zip(numbers, over, strict=True)]
        return [self.quantity, str(self.n_values), *marked]


def apart(quantity: str, ours, theirs) -> Apart:
    """|ours / theirs - 1| where both are there; 0 where both are 0."""
    ours, theirs = (np.asarray(values, np.float64).ravel() for values in (ours, theirs))
    both = np.isfinite(ours) & np.isfinite(theirs)
    n_missing = int((np.isnan(ours) != np.isnan(theirs)).sum())
    a, b = ours[both], theirs[both]
    with np.errstate(divide="ignore", invalid="ignore"):
        errors = np.where(a == b, 0.0, np.abs(a - b) / np.abs(b))
    if not len(errors):
        return Apart(quantity, 0, 0.0, 0.0, 0.0, 0, n_missing)
    # the value itself, without interpolation between a small and a large one
    median, most = np.quantile(errors, [0.5, 0.999], method="inverted_cdf")
    return Apart(quantity, len(errors), median, most, errors.max(), int((errors > LARGEST_999).sum()), n_missing)


def table(head: Iterable[str], rows: Iterable[Iterable]) -> str:
    """Markdown; numbers to the right."""
    head, rows = list(head), [list(map(str, row)) for row in rows]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def errors_table(rows: Iterable[Apart]) -> str:
    """A row for each quantity."""
    return table(HEAD, (row.cells() for row in rows))


def calls_row(name: str, level: float, ours, theirs) -> list:
    """How many genes R and dbx call at a level, and how many both."""
    a, b = np.asarray(ours) < level, np.asarray(theirs) < level
    either = (a | b).sum()
    return [name, level, b.sum(), a.sum(), (a & b).sum(), f"{(a & b).sum() / either:.4f}" if either else "-"]


CALLS_HEAD = ("calls", "padj <", "R", "dbx", "both", "Jaccard")
