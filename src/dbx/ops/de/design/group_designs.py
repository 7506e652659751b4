"""One design within each group of summed cells, with the same meaning in all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dbx.ops.checks import listed
from dbx.ops.de.design.contrast import Contrast, contrast_vector, two_levels
from dbx.ops.de.design.design import Design, check_nested, code_design, make_design, variables
from dbx.ops.de.design.factor_coding import reference_levels
from dbx.ops.de.design.pseudobulk import Pseudobulk
from dbx.ops.values import Codes

SHOWN = 5


@dataclass(frozen=True)
class GroupDesign:
    """What to fit within one group."""

    group: str
    rows: np.ndarray
    """The group's rows of the summed counts."""
    design: Design
    weights: np.ndarray
    """Array of shape (n_coefficients,): the contrast."""
    reduced: Design | None
    """The smaller design of a likelihood ratio test."""


def group_designs(
    formula: str,
    columns: Mapping[str, Codes | np.ndarray],
    summed: Pseudobulk,
    contrast: Contrast = None,
    reduced: str | None = None,
) -> tuple[list[GroupDesign], dict[str, str]]:
    """(designs, group -> reason why it has none).

    Levels that a group lacks are dropped from its design. A group is skipped when no design can be fitted to what is
    left, or when the contrast would mean something else there, as a coefficient does whose reference level is gone.

    Parameters
    ----------
    formula
        The design.
    columns
        Columns of the design, a value for each row of the summed counts.
    summed
        Summed counts with groups.
    contrast
        As :func:`dbx.ops.de.design.contrast.contrast_vector` takes it; None is the last coefficient of the design of
        all rows.
    reduced
        Formula of the smaller design of a likelihood ratio test.

    Raises
    ------
    ValueError
        The design or the contrast is wrong whatever the group, or no group can be tested.
    """
    whole = code_design(formula, _taken(columns, formula), len(summed.n_cells))
    contrast = whole.names[-1] if contrast is None and whole.names else contrast
    contrast_vector(whole, contrast)
    found, skipped = [], {}
    assert summed.group is not None
    for code, group in enumerate(summed.group.levels):
        rows = np.flatnonzero(summed.group.codes == code)
        try:
            found.append(_of_group(str(group), rows, formula, whole, columns, contrast, reduced))
        except ValueError as error:
            skipped[str(group)] = str(error)
    if not found:
        reasons = [f"{group!r}: {reason}" for group, reason in list(skipped.items())[:SHOWN]]
        msg = "No group can be tested.\n" + "\n".join(reasons + ["..."] * (len(skipped) > SHOWN))
        raise ValueError(msg)
    return found, skipped


def _of_group(
    group: str, rows: np.ndarray, formula: str, whole: Design, columns, contrast: Contrast, reduced: str | None
) -> GroupDesign:
    def design_of(formula: str) -> Design:
        taken = {name: _at(column, rows) for name, column in _taken(columns, formula).items()}
        return make_design(formula, taken, len(rows))

    if not len(rows):
        msg = "No sample has enough cells of it."
        raise ValueError(msg)
    design = design_of(formula)
    weights = contrast_vector(design, contrast)
    _check_meaning(whole, design, contrast, weights)
    smaller = None if reduced is None else design_of(reduced)
    if smaller is not None:
        check_nested(design, smaller)
    return GroupDesign(group, rows, design, weights, smaller)


def _check_meaning(whole: Design, design: Design, contrast: Contrast, weights: np.ndarray) -> None:
    """A coefficient compares with its factor's reference level, and holds at those of factors it interacts with."""
    if not isinstance(contrast, str) and not two_levels(whole, contrast) and design.names != whole.names:
        msg = f"Its coefficients are {listed(design.names)}, which the contrast's weights are not for."
        raise ValueError(msg)
    pair = two_levels(whole, contrast)
    at = {name: set(design.spec.variable_indices.get(name, ())) for name in design.frame}
    weighted = set(np.flatnonzero(weights))
    beside = set().union(*(indices for indices in at.values() if indices & weighted))
    before, now = reference_levels(whole), reference_levels(design)
    for name in before:
        if at[name] & beside and before[name] != now[name] and not (pair and pair[0] == name):
            msg = f"No sample has {name} {before[name]!r}, which coefficients of {name!r} compare with."
            raise ValueError(msg)


def _taken(columns: Mapping[str, Codes | np.ndarray], formula: str) -> dict[str, Codes | np.ndarray]:
    return {name: columns[name] for name in variables(formula)}


def _at(column: Codes | np.ndarray, rows: np.ndarray) -> Codes | np.ndarray:
    return Codes(column.codes[rows], column.levels) if isinstance(column, Codes) else column[rows]
