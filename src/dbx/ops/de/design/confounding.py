"""Why coefficients of a design cannot be told apart, in terms of its columns and their levels."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from dbx.ops.checks import listed
from dbx.ops.de.design.formula import columns_of

if TYPE_CHECKING:
    from dbx.ops.de.design.design_matrix import Design

SHOWN = 4
REMEDY = "Take one of them out of the design, or a sample that tells them apart in."


def dependent_column(matrix: np.ndarray, tolerance: float) -> tuple[int, np.ndarray] | None:
    """The first column that follows from those before it, and its weights of them; None where there is none.

    Columns are compared at length one: ``tolerance`` is the length that is left of a dependent one.
    """
    lengths = np.linalg.norm(matrix, axis=0)
    scaled = matrix / np.where(lengths > 0, lengths, 1)
    for last in range(matrix.shape[1]):
        before, column = scaled[:, :last], scaled[:, last]
        weights = np.linalg.lstsq(before, column, rcond=None)[0] if last else np.zeros(0)
        if np.linalg.norm(column - before @ weights) <= tolerance:
            return last, np.where(np.abs(weights) > tolerance, weights, 0)
    return None


def explanation(design: Design, last: int, weights: np.ndarray) -> str:
    """Sentences that name the columns and levels behind the dependent coefficient number ``last``."""
    together = [*np.flatnonzero(weights), last]
    name, partners = design.names[last], [design.names[i] for i in together[:-1]]
    follows = f"{name!r} follows from {listed(partners)}" if partners else f"{name!r} is zero in every sample"
    why = _of_columns(design, together) if design.frame is not None else None
    return f"The coefficients of {design.title} cannot be told apart: {follows}. {why or REMEDY}"


def _of_columns(design: Design, together: list[int]) -> str | None:
    involved = [name for name in design.frame if set(design.spec.variable_indices.get(name, ())) & set(together)]
    factors = [name for name in involved if hasattr(design.frame[name], "cat")]
    numbers = [name for name in involved if name not in factors]
    for one, other in combinations(factors, 2):
        found = _confounded(design, one, other) or _empty_combination(design, one, other)
        if found:
            return found
    for number in numbers:
        values = design.frame[number]
        if values.nunique() == 1:
            return f"{number!r} is {values[0]:.6g} in every sample: leave it out of the design."
        for factor in factors:
            if values.groupby(design.frame[factor], observed=True).nunique().max() == 1:
                return f"All samples of one {factor!r} have the same {number!r}, so the two are confounded. {REMEDY}"
    if any("cr(" in name for name in design.names) and "Intercept" in design.names:
        return 'A cubic spline contains the intercept, unless it is centred: cr(..., constraints="center").'
    return None


def _confounded(design: Design, one: str, other: str) -> str | None:
    """Two factors fall apart if their levels, joined where a sample has both, are in several pieces."""
    table = _table(design, one, other)
    if table.shape[0] < table.shape[1]:
        one, other, table = other, one, table.T
    n_rows, n_columns = table.shape
    joined = np.block([[np.zeros((n_rows, n_rows)), table], [table.T, np.zeros((n_columns, n_columns))]])
    n_pieces, piece = sparse.csgraph.connected_components(joined, directed=False)
    if n_pieces == 1:
        return None
    rows, columns = (np.array(design.frame[name].cat.categories) for name in (one, other))
    parts = []
    for i in range(min(n_pieces, SHOWN)):
        here, there = rows[piece[:n_rows] == i], columns[piece[n_rows:] == i]
        is_one_of = " or ".join(repr(str(level)) for level in there)
        parts.append(f"every sample of {one} {listed(here)} is {other} {is_one_of}")
    more = " ..." if n_pieces > SHOWN else ""
    return f"{one!r} and {other!r} are confounded: {', '.join(parts)}{more}. {REMEDY}"


def _empty_combination(design: Design, one: str, other: str) -> str | None:
    if not any({one, other} <= _names(term) for term in design.spec.terms):
        return None
    table = _table(design, one, other)
    for row, column in np.argwhere(table == 0):
        levels = [design.frame[name].cat.categories[i] for name, i in ((one, row), (other, column))]
        return (
            f"No sample has {one} {str(levels[0])!r} and {other} {str(levels[1])!r} together, so their interaction "
            f"cannot be estimated: write {one} + {other}, or join the two into one factor."
        )
    return None


def _names(term) -> set[str]:
    return {name for factor in term.factors for name, _ in columns_of(factor)}


def _table(design: Design, one: str, other: str) -> np.ndarray:
    """Samples with each pair of levels."""
    first, second = (design.frame[name].cat for name in (one, other))
    table = np.zeros((len(first.categories), len(second.categories)), np.int64)
    np.add.at(table, (first.codes.to_numpy(), second.codes.to_numpy()), 1)
    return table
