"""Design matrices from a formula and columns, or as they are given, checked in words."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from dbx.ops.checks import listed
from dbx.ops.de.design.confounding import dependent_column, explanation
from dbx.ops.de.design.design_columns import design_frame
from dbx.ops.de.design.design_matrix import Design
from dbx.ops.de.design.formula import doubtful_powers, parsed, uses, variables
from dbx.ops.values import Codes

__all__ = ["Design", "check_nested", "code_design", "make_design", "matrix_design", "variables"]

TOLERANCE = 1e-7
"""What is left of a column of length one that follows from others, at most."""


def make_design(formula: str, columns: Mapping[str, Codes | np.ndarray], n_samples: int) -> Design:
    """Code the columns as the formula says; the first level of a factor is its reference.

    Raises
    ------
    ValueError
        The formula cannot be read; a column has missing values; a factor has one level; coefficients cannot be told
        apart, or are as many as samples.
    """
    return checked(code_design(formula, columns, n_samples))


def matrix_design(matrix: np.ndarray, names: Sequence[str], n_samples: int) -> Design:
    """A design given as a matrix of shape (n_samples, n_coefficients).

    Raises
    ------
    ValueError
        Its shape does not fit, names are missing or repeated, or it fails the checks of :func:`make_design`.
    """
    matrix = np.asarray(matrix, np.float64)
    names = tuple(map(str, names))
    if matrix.ndim != 2 or matrix.shape[0] != n_samples:
        msg = f"The design matrix needs a row for each of the {n_samples} samples; its shape is {matrix.shape}."
        raise ValueError(msg)
    if len(names) != matrix.shape[1] or len(set(names)) < len(names):
        msg = f"The design matrix has {matrix.shape[1]} columns, which need a name each; there are {listed(names)}."
        raise ValueError(msg)
    return checked(Design(None, matrix, names))


def design_again(formula: str | tuple[str, ...], frame, matrix, n_samples: int, names: Sequence[str]) -> Design:
    """The design of a fitted model, coded anew; a matrix may be traced by JAX.

    Parameters
    ----------
    formula
        The formula, or names of the matrix's columns.
    frame
        Columns by name, a DataFrame or a dict of Codes and arrays.
    matrix
        Array of shape (n_samples, n_coefficients), None with a formula.
    n_samples
        Number of samples.
    names
        Names of the fitted coefficients.

    Raises
    ------
    ValueError
        A column is missing, or the coefficients are others.
    """
    if not isinstance(formula, str):
        return Design(None, matrix, tuple(formula))
    lacking = [name for name in variables(formula) if frame is None or name not in frame]
    if lacking:
        msg = f"The design {formula!r} needs the columns {listed(lacking)}: pass them by name, as adata.obs has them."
        raise ValueError(msg)
    design = code_design(formula, {name: _column(frame[name]) for name in variables(formula)}, n_samples)
    if design.names != tuple(names):
        msg = (
            f"These samples have the coefficients {listed(design.names)}, the fit {listed(names)}: pass columns with "
            "the levels of the fit, in their order."
        )
        raise ValueError(msg)
    return design


def _column(column) -> Codes | np.ndarray:
    """A column of a DataFrame as designs take it."""
    if not hasattr(column, "cat"):
        return column if isinstance(column, Codes) else np.asarray(column)
    return Codes(column.cat.codes.to_numpy().astype(np.int32), tuple(map(str, column.cat.categories)))


def code_design(formula: str, columns: Mapping[str, Codes | np.ndarray], n_samples: int) -> Design:
    """:func:`make_design` without the checks of the matrix: its coefficients may be too many."""
    from formulaic.errors import FormulaicError

    terms = parsed(formula)
    frame, notes = design_frame(columns, uses(formula), n_samples)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            coded = terms.get_model_matrix(frame, na_action="raise")
    except (FormulaicError, ValueError) as error:
        msg = f"The design {formula!r} cannot be computed: {str(error).splitlines()[0]}"
        raise ValueError(msg) from error
    matrix = np.asarray(coded, np.float64)
    return Design(
        formula, matrix, tuple(map(str, coded.columns)), frame, coded.model_spec, (*notes, *doubtful_powers(formula))
    )


def checked(design: Design) -> Design:
    """The design itself, if its coefficients can be estimated and leave replicates for the dispersions."""
    n_samples, n_coefficients = design.matrix.shape
    if not n_coefficients:
        msg = f'There is no coefficient in {design.title}; "~ 1" has an intercept alone.'
        raise ValueError(msg)
    wrong = np.argwhere(~np.isfinite(design.matrix))
    if len(wrong):
        row, column = wrong[0]
        msg = f"{design.names[column]!r} of {design.title} is {design.matrix[row, column]} in sample number {row}."
        raise ValueError(msg)
    dependent = dependent_column(design.matrix, TOLERANCE)
    if dependent is not None:
        raise ValueError(explanation(design, *dependent))
    if n_samples <= n_coefficients:
        msg = (
            f"There are {n_samples} samples for the {n_coefficients} coefficients of {design.title}, which leaves "
            "nothing to estimate dispersions from: take a smaller design, or more replicates."
        )
        raise ValueError(msg)
    return design


def check_nested(full: Design, reduced: Design) -> None:
    """Make sure that a likelihood ratio test compares a model with a part of itself.

    Raises
    ------
    ValueError
        The reduced design has other samples, no fewer coefficients, or a column that the full design cannot express.
    """
    if len(reduced.matrix) != len(full.matrix):
        msg = f"The full design has {len(full.matrix)} samples, the reduced one {len(reduced.matrix)}."
        raise ValueError(msg)
    span, _ = np.linalg.qr(full.matrix)
    scaled = reduced.matrix / np.linalg.norm(reduced.matrix, axis=0)
    left = np.linalg.norm(scaled - span @ (span.T @ scaled), axis=0)
    outside = [name for name, rest in zip(reduced.names, left, strict=True) if rest > TOLERANCE]
    if outside:
        msg = (
            f"The reduced design has {listed(outside)}, which the full design with {listed(full.names)} does not "
            "contain: take terms away from the full design to reduce it."
        )
        raise ValueError(msg)
    if reduced.matrix.shape[1] >= full.matrix.shape[1]:
        msg = (
            "The reduced design has as many coefficients as the full one, so there is nothing to test: take away the "
            "terms whose effect is in question."
        )
        raise ValueError(msg)
