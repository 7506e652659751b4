"""Design formulas: the columns they need, and nothing in them that runs foreign code."""

from __future__ import annotations

import ast
import re

CODINGS = ("treatment", "SAS", "sum", "helmert", "diff", "poly")
OF_NUMBERS = ("log", "log2", "log10", "exp", "exp2", "exp10")
OF_NUMPY = tuple(f"np.{name}" for name in ("log", "log1p", "log2", "log10", "exp", "sqrt", "square", "power", "abs"))
SPLINES = ("poly", "bs", "cr", "cs", "cc")
FUNCTIONS = {
    *("C", "I", "center", "scale", "standardize"),
    *(*SPLINES, *OF_NUMBERS, *OF_NUMPY),
    *(f"contr.{name}" for name in CODINGS),
}
ALLOWED = (
    *(ast.Expression, ast.Name, ast.Attribute, ast.Load, ast.Call, ast.keyword, ast.Constant, ast.List, ast.Tuple),
    *(ast.BinOp, ast.UnaryOp, ast.operator, ast.unaryop, ast.Compare, ast.cmpop),
)
ADVICE = {
    r"\^": "a power is written I(age**2), or as a polynomial poly(age, 2)",
    r"\b(as\.)?factor\(": "a factor is written C(batch)",
    r"\b(relevel|Treatment)\(": 'a reference level is written C(condition, contr.treatment("control"))',
    r"\bns\(": "a natural spline is written cr(age, df=3)",
    r"(?<![.\w])(sqrt|log1p|square|power|abs)\(": "such functions are NumPy's: np.sqrt(age)",
    r"\boffset\(": "an offset is the logarithm of size factors: size_factors names a column of obs",
    r"\|": "random effects cannot be fitted: put the column into the design, ~ donor + condition",
    r"~\s*\.\s*$": "columns are named one by one: ~ batch + condition",
}
"""What R, patsy or lme4 write -> how it is written here."""
BRACKETS = re.compile(r"[({\[][^(){}\[\]]*[)}\]]")
POWER = re.compile(r"(?<![\w.])([A-Za-z_][\w.]*)\s*(?:\*\*|\^)\s*(\d+)")
QUOTED = re.compile("`([^`]+)`")
"""A column whose name is not an identifier."""


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


def checked_formula(given: object) -> str:
    """A formula, once it is known to be a text."""
    if not isinstance(given, str):
        msg = f'A design formula is a text such as "~ batch + condition", not {given!r}.'
        raise ValueError(msg)
    return given


def parsed(formula: str):
    """The formula as formulaic reads it, once it is known to be harmless."""
    from formulaic import Formula
    from formulaic.errors import FormulaicError

    formula = checked_formula(formula)
    try:
        terms = Formula(formula)
    except (FormulaicError, SyntaxError) as error:
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        msg = f"The design {formula!r} cannot be read as a formula: {reason}.{advice(formula)}"
        raise ValueError(msg) from error
    if hasattr(terms, "lhs") or hasattr(terms, "rhs"):
        msg = f'The design {formula!r} has a left side; write the right side alone, such as "~ batch + condition".'
        raise ValueError(msg)
    if not all(hasattr(term, "factors") for term in terms):
        msg = f"The design {formula!r} has several parts; a design is one sum of terms.{advice(formula)}"
        raise ValueError(msg)
    for factor in _factors(terms):
        if factor.eval_method.value == "python":
            _check_harmless(formula, factor.expr)
    return terms


def advice(formula: str) -> str:
    """A sentence on how to write what another language writes otherwise; nothing if all is well."""
    known = [text for pattern, text in ADVICE.items() if re.search(pattern, formula)]
    return f" In designs, {'; '.join(known)}." if known else ""


def doubtful_powers(formula: str) -> list[str]:
    """Notes on powers outside a function, which are interactions of a column with itself: the column alone."""
    outside, before = formula, None
    while outside != before:  # innermost brackets first
        outside, before = BRACKETS.sub("", outside), outside
    return [
        f"{name}**{power} in the design is {name} itself; its power is written I({name}**{power})."
        for name, power in POWER.findall(outside)
    ]


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
    names = [node.id for node in ast.walk(tree) if isinstance(node, ast.Name)]
    names = [name for name in names if name not in {"np", "contr", *FUNCTIONS}]
    whole = _made_a_factor(tree.body)
    return [(quoted.get(name, name), "C" if name in whole else "computed") for name in names]


def _made_a_factor(called: ast.expr) -> list[str]:
    """Columns that ``C(...)`` makes a factor."""
    if not isinstance(called, ast.Call) or ast.unparse(called.func) != "C":
        return []
    return [argument.id for argument in called.args if isinstance(argument, ast.Name)]


def _check_harmless(formula: str, expression: str) -> None:
    """Refuse anything but columns, numbers and known functions: a design can come from somebody else's file."""
    try:
        tree, _ = _tree(expression)
    except SyntaxError as error:
        msg = f"The design {formula!r} has a part that cannot be read: {expression!r}.{advice(formula)}"
        raise ValueError(msg) from error
    nodes = list(ast.walk(tree))
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    attributes = [node for node in nodes if isinstance(node, ast.Attribute)]
    known = all(ast.unparse(node) in FUNCTIONS for node in (*functions, *attributes))
    if known and all(isinstance(node, ALLOWED) and not isinstance(node, ast.BitXor) for node in nodes):
        return
    there = ", ".join(sorted(FUNCTIONS))
    msg = (
        f"The design {formula!r} computes {expression!r}; a design takes columns, numbers and the functions {there}."
        f"{advice(formula)}"
    )
    raise ValueError(msg)
