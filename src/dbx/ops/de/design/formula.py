"""Design formulas: the columns they need, and nothing in them that runs foreign code."""

from __future__ import annotations

import ast
import re

CODINGS = ("treatment", "SAS", "sum", "helmert", "diff", "poly")
LOGARITHMS = ("log", "log2", "log10", "exp", "np.log", "np.log1p", "np.sqrt")
FUNCTIONS = {"C", "center", "scale", "poly", "bs", "cr", *LOGARITHMS, *(f"contr.{name}" for name in CODINGS)}
ALLOWED = (
    *(ast.Expression, ast.Name, ast.Attribute, ast.Load, ast.Call, ast.keyword, ast.Constant, ast.List, ast.Tuple),
    *(ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop),
)
QUOTED = re.compile("`([^`]+)`")
"""A column whose name is no identifier."""


def variables(formula: str) -> list[str]:
    """Names of the columns that a formula needs."""
    return sorted(uses(formula))


def uses(formula: str) -> dict[str, set[str]]:
    """How each column enters: ``"plain"``, as a factor by ``"C"``, or ``"computed"`` by another function.

    Raises
    ------
    ValueError
        The formula cannot be read, has a left side, or calls what a design may not call.
    """
    found: dict[str, set[str]] = {}
    for factor in _factors(parsed(formula)):
        for name, way in columns_of(factor):
            found.setdefault(name, set()).add(way)
    return found


def columns_of(factor) -> list[tuple[str, str]]:
    """Columns that a factor of a term reads, and how."""
    if factor.eval_method.value == "lookup":
        return [(factor.expr, "plain")]
    return _columns(factor.expr) if factor.eval_method.value == "python" else []


def parsed(formula: str):
    """The formula as formulaic reads it, once it is known to be harmless."""
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    if not isinstance(formula, str):
        msg = f'A design formula is a text such as "~ batch + condition", not {formula!r}.'
        raise ValueError(msg)
    try:
        terms = Formula(formula)
    except (FormulaicError, SyntaxError) as error:
        msg = f"The design {formula!r} cannot be read as a formula: {str(error).splitlines()[0].split('. ')[0]}"
        raise ValueError(msg) from error
    if hasattr(terms, "lhs") or hasattr(terms, "rhs"):
        msg = f'The design {formula!r} has a left side; write the right side alone, such as "~ batch + condition".'
        raise ValueError(msg)
    if not all(hasattr(term, "factors") for term in terms):
        msg = f"The design {formula!r} has several parts; a design is one sum of terms."
        raise ValueError(msg)
    for factor in _factors(terms):
        if factor.eval_method.value == "python":
            _check_harmless(formula, factor.expr)
    return terms


def _factors(terms) -> list:
    return [factor for term in terms for factor in term.factors]


def _tree(expression: str) -> tuple[ast.Expression, dict[str, str]]:
    """Syntax of an expression, and the names of columns that stand in it as quoted."""
    quoted = {f"_quoted_{i}": name for i, name in enumerate(dict.fromkeys(QUOTED.findall(expression)))}
    for placeholder, name in quoted.items():
        expression = expression.replace(f"`{name}`", placeholder)
    return ast.parse(expression, mode="eval"), quoted


def _columns(expression: str) -> list[tuple[str, str]]:
    tree, quoted = _tree(expression)
    called = tree.body
    factor = isinstance(called, ast.Call) and ast.unparse(called.func) == "C"
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    names = [name for name in names if name not in {"np", "contr", *FUNCTIONS}]
    whole = [argument.id for argument in called.args if isinstance(argument, ast.Name)] if factor else []
    return [(quoted.get(name, name), "C" if name in whole else "computed") for name in names]


def _check_harmless(formula: str, expression: str) -> None:
    """Refuse anything but columns, numbers and known functions: a design can come from somebody else's file."""
    try:
        tree, _ = _tree(expression)
    except SyntaxError as error:
        msg = f"The design {formula!r} has a part that cannot be read: {expression!r}."
        raise ValueError(msg) from error
    nodes = list(ast.walk(tree))
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    known = all(ast.unparse(node) in FUNCTIONS for node in (*functions, *attributes))
    if known and all(isinstance(node, ALLOWED) for node in nodes):
        return
    there = ", ".join(sorted(FUNCTIONS))
    msg = f"The design {formula!r} computes {expression!r}; a design takes columns, numbers and the functions {there}."
    raise ValueError(msg)
