"""Design matrices and contrasts against formulaic's own coding and by hand."""

import numpy as np
import pytest
from formulaic import model_matrix

from dbx.ops.de.design import contrast_vector, make_design, variables
from dbx.ops.values import Codes

N = 24


@pytest.fixture(scope="module")
def columns():
    rng = np.random.default_rng(0)
    return {
        "batch": Codes((np.arange(N) % 2).astype(np.int32), ("a", "b")),
        "line": Codes((np.arange(N) // 2 % 3).astype(np.int32), ("x", "y", "z")),
        "age": rng.normal(50, 8, N),
    }


def taken(columns, formula):
    return {name: columns[name] for name in variables(formula)}


@pytest.mark.parametrize(
    ("formula", "names"),
    [
        ("~ batch + line", ["batch", "line"]),
        ("batch:line + np.log(age)", ["age", "batch", "line"]),
        ("~ bs(age, df=4) + C(line, contr.sum)", ["age", "line"]),
        ("~ scale(age)", ["age"]),
        ("~ 1", []),
    ],
)
def test_variables_are_the_columns_needed(formula, names):
    assert variables(formula) == names


@pytest.mark.parametrize("formula", ["~ batch + line", "~ 0 + line", "~ batch * line", "~ batch + np.log(age)", "~ 1"])
def test_coding_is_formulaics(columns, formula):
    design = make_design(formula, taken(columns, formula), N)
    theirs = model_matrix(formula, design.frame)
    np.testing.assert_array_equal(design.matrix, np.asarray(theirs, float))
    assert list(design.names) == list(theirs.columns)


@pytest.mark.parametrize(
    ("formula", "contrast", "expected"),
    [
        ("~ batch + line", None, [0, 0, 0, 1]),
        ("~ batch + line", "line[T.y]", [0, 0, 1, 0]),
        ("~ batch + line", ("line", "z", "y"), [0, 0, -1, 1]),
        ("~ batch + line", ("line", "x", "z"), [0, 0, 0, -1]),
        ("~ 0 + line", ("line", "y", "x"), [-1, 1, 0]),
        ("~ batch * line", ("line", "y", "x"), [0, 0, 1, 0, 0, 0]),  # at batch a
        ("~ age + batch", ("batch", "b", "a"), [0, 0, 1]),
    ],
)
def test_contrasts(columns, formula, contrast, expected):
    design = make_design(formula, taken(columns, formula), N)
    vector = contrast_vector(design, contrast)
    by_name = dict(zip(design.names, vector, strict=True))
    np.testing.assert_allclose(vector, expected, err_msg=str(by_name))


def test_interactions_with_a_covariate_are_taken_at_its_mean(columns):
    design = make_design("~ batch * age", taken(columns, "~ batch * age"), N)
    vector = dict(zip(design.names, contrast_vector(design, ("batch", "b", "a")), strict=True))
    assert vector["batch[T.b]"] == 1
    np.testing.assert_allclose(vector["batch[T.b]:age"], columns["age"].mean())


def test_confounded_columns_are_named(columns):
    twice = {"batch": columns["batch"], "site": Codes(columns["batch"].codes, ("p", "q"))}
    with pytest.raises(ValueError, match=r"'site\[T.q\]' follows from 'batch\[T.b\]'"):
        make_design("~ batch + site", twice, N)
    doubled = {"age": columns["age"], "months": 12 * columns["age"]}
    with pytest.raises(ValueError, match="'months' follows from 'age'"):
        make_design("~ age + months", doubled, N)


def test_an_empty_combination_is_named(columns):
    hole = Codes(np.where(columns["batch"].codes == 0, 0, columns["line"].codes).astype(np.int32), ("x", "y", "z"))
    with pytest.raises(ValueError, match="no cells"):
        make_design("~ batch * line", {"batch": columns["batch"], "line": hole}, N)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("~ batch + + (", "cannot be read"),
        ("y ~ batch", "left side"),
        ("~ one", "one level 'k'"),
        ("~ C(age)", "nothing to estimate|cannot be told apart"),
    ],
)
def test_designs_that_cannot_be_are_refused(columns, formula, words):
    given = {**columns, "one": Codes(np.zeros(N, np.int32), ("k",)), "y": columns["age"]}
    with pytest.raises(ValueError, match=words):
        make_design(formula, taken(given, formula), N)


@pytest.mark.parametrize(
    "formula",
    ["~ __import__('os').system('true')", "~ np.load('x')", "~ {open('x')}", "~ C(a, __import__('os'))", "~ Q('a')"],
)
def test_a_design_never_runs_foreign_code(formula):
    with pytest.raises(ValueError, match="a design takes columns|cannot be read"):
        variables(formula)


@pytest.mark.parametrize(
    ("contrast", "words"),
    [
        ("nope", r"no coefficient 'nope'.*'line\[T.y\]'"),
        (("line", "w", "x"), "'line' has no level 'w'; it has 'x', 'y', 'z'"),
        (("nope", "a", "b"), "no factor 'nope'; it has 'batch', 'line'"),
        (("line", "x"), "factor, level, reference"),
    ],
)
def test_unknown_contrasts_are_explained(columns, contrast, words):
    design = make_design("~ batch + line", taken(columns, "~ batch + line"), N)
    with pytest.raises(ValueError, match=words):
        contrast_vector(design, contrast)


def test_a_covariate_has_no_levels(columns):
    design = make_design("~ batch + age", taken(columns, "~ batch + age"), N)
    with pytest.raises(ValueError, match="'age' is a number"):
        contrast_vector(design, ("age", "1", "2"))
