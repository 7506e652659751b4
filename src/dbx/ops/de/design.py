"""Design matrices from a formula and columns, and contrasts of their coefficients, checked in words."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dbx.ops.values import Codes

Contrast = str | tuple[str, str, str] | None

CODINGS = ("treatment", "sas", "sum", "helmert", "diff", "poly")
LOGARITHMS = ("log", "log2", "log10", "exp", "np.log", "np.log1p", "np.sqrt")
FUNCTIONS = {"C", "center", "scale", "poly", "bs", "cr", *LOGARITHMS, *(f"contr.{name}" for name in CODINGS)}
ALLOWED = (
    *(ast.Expression, ast.Name, ast.Attribute, ast.Load, ast.Call, ast.keyword, ast.Constant, ast.List, ast.Tuple),
    *(ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop),
)


@dataclass(frozen=True)
class Design:
    """A design matrix of full rank with the names of its columns."""

    formula: str
    matrix: np.ndarray
    """Array of shape (n_cells, n_coefficients), float64."""
    names: tuple[str, ...]
    frame: Any
    spec: Any
    """What formulaic remembers of the coding, to code other rows alike."""


def variables(formula: str) -> list[str]:
    """Names of the columns that a formula needs."""
    names = set()
    for factor in _factors(_parsed(formula)):
        if factor.eval_method.value == "lookup":
            names.add(factor.expr)
        elif factor.eval_method.value == "python":
            nodes = ast.walk(ast.parse(factor.expr, mode="eval"))
            names |= {node.id for node in nodes if isinstance(node, ast.Name)} - {"np", "contr", *FUNCTIONS}
    return sorted(names)


def make_design(formula: str, columns: Mapping[str, Codes | np.ndarray], n_cells: int) -> Design:
    """Code the columns as the formula says.

    Raises
    ------
    ValueError
        The formula cannot be read; a factor has one level; coefficients cannot be told apart, or are as many as cells.
    """
    import pandas as pd

    frame = pd.DataFrame({name: _column(name, column) for name, column in columns.items()}, index=range(n_cells))
    coded = _parsed(formula).get_model_matrix(frame, na_action="raise")
    design = Design(formula, np.asarray(coded, np.float64), tuple(map(str, coded.columns)), frame, coded.model_spec)
    _check_rank(design)
    n_coefficients = len(design.names)
    if n_cells <= n_coefficients:
        msg = (
            f"The design {formula} has {n_coefficients} coefficients for {n_cells} samples, which leaves nothing to "
            "estimate dispersions from: take a smaller design, or more replicates."
        )
        raise ValueError(msg)
    return design


def contrast_vector(design: Design, contrast: Contrast) -> np.ndarray:
    """Weights of the coefficients in a contrast, an array of shape (n_coefficients,).

    None is the last coefficient, a text names one, and ``(factor, level, reference)`` compares two levels, with other
    factors at their first level and covariates at their mean.

    Raises
    ------
    ValueError
        There is no such coefficient, factor or level.
    """
    if contrast is None:
        return np.eye(len(design.names))[-1]
    if isinstance(contrast, str):
        if contrast not in design.names:
            msg = f"There is no coefficient {contrast!r} in {design.formula}; there are {_list(design.names)}."
            raise ValueError(msg)
        return np.eye(len(design.names))[design.names.index(contrast)]
    if len(contrast) != 3:
        msg = f'A contrast is (factor, level, reference), such as ("dex", "trt", "untrt"), not {contrast!r}.'
        raise ValueError(msg)
    factor, *pair = contrast
    levels = _levels(design, factor)
    for level in pair:
        if level not in levels:
            msg = f"{factor!r} has no level {level!r}; it has {_list(levels)}."
            raise ValueError(msg)
    rows = _typical(design)
    rows[factor] = rows[factor].astype(object)
    rows[factor] = np.array(pair, dtype=object)
    rows[factor] = rows[factor].astype(design.frame[factor].dtype)
    coded = np.asarray(design.spec.get_model_matrix(rows), np.float64)
    return coded[0] - coded[1]


def _parsed(formula: str):
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    try:
        parsed = Formula(formula)
    except (FormulaicError, SyntaxError) as error:
        msg = f"The design {formula!r} cannot be read as a formula: {str(error).splitlines()[0]}"
        raise ValueError(msg) from error
    if hasattr(parsed, "lhs") or hasattr(parsed, "rhs"):
        msg = f'The design {formula!r} has a left side; write the right side alone, such as "~ batch + condition".'
        raise ValueError(msg)
    for factor in _factors(parsed):
        if factor.eval_method.value == "python":
            _check_harmless(formula, factor.expr)
    return parsed


def _factors(parsed) -> list:
    return [factor for term in parsed for factor in term.factors]


def _check_harmless(formula: str, expression: str) -> None:
    """Refuse anything but columns, numbers and known functions: a design can come from somebody else's file."""
    try:
        nodes = list(ast.walk(ast.parse(expression, mode="eval")))
    except SyntaxError as error:
        msg = f"The design {formula!r} has a part that cannot be read: {expression!r}."
        raise ValueError(msg) from error
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    known = all(ast.unparse(call) in FUNCTIONS for call in calls)
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    known = known and all(ast.unparse(node) in FUNCTIONS for node in attributes)
    if known and all(isinstance(node, ALLOWED) for node in nodes):
        return
    there = ", ".join(sorted(FUNCTIONS))
    msg = f"The design {formula!r} computes {expression!r}; a design takes columns, numbers and the functions {there}."
    raise ValueError(msg)


def _column(name: str, column: Codes | np.ndarray):
    import pandas as pd

    if not isinstance(column, Codes):
        return np.asarray(column)
    if column.n_levels < 2:
        msg = f"{name!r} has the one level {column.levels[0]!r} and explains nothing: leave it out of the design."
        raise ValueError(msg)
    return pd.Categorical.from_codes(np.asarray(column.codes), list(column.levels))


def _check_rank(design: Design) -> None:
    scaled = design.matrix / np.maximum(np.linalg.norm(design.matrix, axis=0), 1e-300)
    for last in range(scaled.shape[1]):
        before, column = scaled[:, :last], scaled[:, last]
        weights = np.linalg.lstsq(before, column, rcond=None)[0] if last else np.zeros(0)
        if np.linalg.norm(column - before @ weights) > 1e-7 and column.any():
            continue
        partners = [name for name, weight in zip(design.names, weights, strict=False) if abs(weight) > 1e-7]
        why = f"follows from {_list(partners)}" if partners else "is zero"
        msg = (
            f"The coefficients of {design.formula} cannot be told apart: {design.names[last]!r} {why}. They are "
            "confounded in the data (or one combination has no cells): take one of them out of the design."
        )
        raise ValueError(msg)


def _levels(design: Design, factor: str) -> list[str]:
    if factor not in design.frame:
        msg = f"The design {design.formula} has no factor {factor!r}; it has {_list(design.frame.columns)}."
        raise ValueError(msg)
    column = design.frame[factor]
    if not hasattr(column, "cat"):
        msg = f"{factor!r} is a number: name its coefficient instead, one of {_list(design.names)}."
        raise ValueError(msg)
    return list(column.cat.categories)


def _typical(design: Design):
    """Two equal rows: every factor at its first level, every covariate at its mean."""
    import pandas as pd

    first = {
        name: pd.Categorical([column.cat.categories[0]] * 2, column.cat.categories)
        if hasattr(column, "cat")
        else [float(column.mean())] * 2
        for name, column in design.frame.items()
    }
    return pd.DataFrame(first, index=range(2))


def _list(names) -> str:
    return ", ".join(repr(str(name)) for name in names)
