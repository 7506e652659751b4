"""Design matrices against formulaic's own coding and by hand, and what is said of those that cannot be."""

import re

import numpy as np
import pytest
from formulaic import model_matrix

from dbx.ops.de.design.design import check_nested, make_design, matrix_design, variables
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
        ("~ `cell type` + C(`cell type`, contr.SAS)", ["cell type"]),
        ('~ C(line, levels=["z", "x", "y"])', ["line"]),
    ],
)
def test_variables_are_the_columns_needed(formula, names):
    assert variables(formula) == names


@pytest.mark.parametrize(
    "formula",
    [
        "~ batch + line",
        "~ 0 + line",
        "~ batch * line",
        "~ batch + np.log(age)",
        "~ 1",
        "~ C(line, contr.helmert) + bs(age, df=4)",
        '~ cr(age, df=3, constraints="center")',
        "~ poly(age, 3):batch",
    ],
)
def test_coding_is_formulaics(columns, formula):
    design = make_design(formula, taken(columns, formula), N)
    theirs = model_matrix(formula, design.frame)
    np.testing.assert_array_equal(design.matrix, np.asarray(theirs, float))
    assert list(design.names) == list(theirs.columns)


def test_levels_without_a_sample_are_dropped_with_a_note(columns):
    line = columns["line"]
    design = make_design("~ line", {"line": Codes(line.codes + 1, ("w", *line.levels, "zz"))}, N)
    np.testing.assert_array_equal(design.matrix, make_design("~ line", {"line": line}, N).matrix)
    assert design.names == ("Intercept", "line[T.y]", "line[T.z]")
    assert design.notes == ("No sample has these levels of 'line', which are dropped: 'w', 'zz'.",)


def test_text_booleans_and_numbers_in_c_are_factors():
    given = {"day": np.tile([10.0, 2.0, 7.5], 8), "old": np.arange(N) % 2 == 0, "site": np.array(list("qp") * 12)}
    assert make_design("~ C(day)", given, N).names == ("Intercept", "C(day)[T.7.5]", "C(day)[T.10]")
    assert make_design("~ old", given, N).names == ("Intercept", "old[T.True]")
    assert make_design("~ site", given, N).names == ("Intercept", "site[T.q]")


def test_references_can_be_chosen(columns):
    design = make_design('~ C(line, contr.treatment("y"))', {"line": columns["line"]}, N)
    expected = [np.ones(N), columns["line"].codes == 0, columns["line"].codes == 2]
    np.testing.assert_array_equal(design.matrix, np.column_stack(expected))


@pytest.mark.parametrize(
    ("formula", "values", "note"),
    [
        ("~ day", np.tile([1, 2, 3], 8), r"'day' is taken as a number with the values 1, 2, 3.*C\(day\)"),
        ("~ day", np.tile([0, 1], 12), None),
        ("~ day", np.arange(N) / 100, None),
        ("~ day", np.arange(N) + 0.5, r"a mean of 12 and a standard deviation of 7.07; scale\(day\)"),
        ("~ day", np.linspace(-9, 9, N), "standard deviation of 5.53"),
        ("~ scale(day)", np.arange(N), None),
    ],
)
def test_doubtful_covariates_are_noted(formula, values, note):
    notes = make_design(formula, {"day": values}, N).notes
    assert (len(notes) == 1 and re.search(note, notes[0])) if note else notes == ()


def test_confounded_factors_are_explained_by_their_levels(columns):
    batch, line = columns["batch"].codes, columns["line"].codes
    same = {"batch": columns["batch"], "condition": Codes(batch, ("ctrl", "trt"))}
    words = (
        "'batch' and 'condition' are confounded: every sample of batch 'a' is condition 'ctrl', every sample of batch"
    )
    with pytest.raises(ValueError, match=words):
        make_design("~ batch + condition", same, N)
    nested = {"condition": Codes((line == 2).astype(np.int32), ("ctrl", "trt")), "line": columns["line"]}
    with pytest.raises(
        ValueError, match="line 'x', 'y' is condition 'ctrl', every sample of line 'z' is condition 'trt'"
    ):
        make_design("~ condition + line", nested, N)
    with pytest.raises(ValueError, match="every sample of line 'x', 'y' is"):
        make_design("~ 0 + line + condition", nested, N)


def test_two_pieces_without_a_shared_level_are_confounded():
    # p is c or d, q is d or c; r and s are e or f: no level joins the two halves
    donor = Codes(np.repeat([0, 1, 2, 3], 6).astype(np.int32), ("p", "q", "r", "s"))
    stage = Codes(
        np.tile([0, 1], 12).astype(np.int32) + 2 * (np.arange(N) >= 12).astype(np.int32), ("c", "d", "e", "f")
    )
    with pytest.raises(ValueError, match="donor 'p', 'q' is stage 'c' or 'd', every sample of donor 'r', 's' is stage"):
        make_design("~ donor + stage", {"donor": donor, "stage": stage}, N)


def test_three_factors_that_depend_pair_by_pair_on_nothing():
    one, other = np.arange(N) % 2, np.arange(N) // 2 % 2
    codes = {"one": (one, "ab"), "other": (other, "cd"), "sum": (one + other, "xyz")}
    columns = {name: Codes(code.astype(np.int32), tuple(levels)) for name, (code, levels) in codes.items()}
    words = r"'sum\[T.z\]' follows from 'one\[T.b\]', 'other\[T.d\]', 'sum\[T.y\]'. Take one of them out"
    with pytest.raises(ValueError, match=words):
        make_design("~ one + other + sum", columns, N)


def test_dependent_numbers_are_explained(columns):
    with pytest.raises(ValueError, match="'months' follows from 'age'"):
        make_design("~ age + months", {"age": columns["age"], "months": 12 * columns["age"]}, N)
    with pytest.raises(ValueError, match="'dose' is 3 in every sample"):
        make_design("~ dose + batch", {"dose": np.full(N, 3.0), "batch": columns["batch"]}, N)
    of_line = {"age": np.array([40.0, 51.0, 68.0])[columns["line"].codes], "line": columns["line"]}
    with pytest.raises(ValueError, match="All samples of one 'line' have the same 'age'"):
        make_design("~ age + line", of_line, N)
    with pytest.raises(ValueError, match='cr\\(..., constraints="center"\\)'):
        make_design("~ cr(age, df=4)", {"age": columns["age"]}, N)


def test_an_empty_combination_is_named(columns):
    hole = Codes(np.where(columns["batch"].codes == 0, 0, columns["line"].codes).astype(np.int32), ("x", "y", "z"))
    with pytest.raises(ValueError, match="No sample has batch 'a' and hole 'y' together"):
        make_design("~ batch * hole", {"batch": columns["batch"], "hole": hole}, N)
    make_design("~ batch + hole", {"batch": columns["batch"], "hole": hole}, N)


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (
            Codes(np.where(np.arange(N) == 5, -1, np.arange(N) % 2).astype(np.int32), ("a", "b")),
            "1 missing values.*er 5",
        ),
        (np.where(np.arange(N) > 20, np.nan, np.arange(N)), "'x' has 3 missing values"),
        (np.array([None, "a", "b"] * 8, dtype=object), "'x' has 8 missing values"),
        (np.where(np.arange(N) > 20, np.inf, np.arange(N)), "'x' has 3 infinite values"),
        (np.arange(N - 1), "'x' has 23 values for 24 samples"),
        (Codes(np.ones(N, np.int32), ("a", "b")), "'x' has the one level 'b'"),
    ],
)
def test_columns_that_cannot_be_used_are_refused(column, words):
    with pytest.raises(ValueError, match=words):
        make_design("~ x", {"x": column}, N)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("~ batch + + (", "cannot be read"),
        ("y ~ batch", "left side"),
        ("~ batch | line", "several parts"),
        ("~ .", "cannot be read"),
        ("~ 0", "no coefficient"),
        ("~ np.log(y)", "cannot be computed|'np.log"),
        ("~ np.log(age - age)", "cannot be computed|is -inf in sample number 0"),
        ('~ C(line, contr.treatment("w"))', "cannot be computed.*'w'"),
        ("~ C(age)", "24 samples for the 24 coefficients of the design ~ C"),
        ("~ batch:line + C(day)", "nothing to estimate|cannot be told apart"),
    ],
)
def test_designs_that_cannot_be_are_refused(columns, formula, words):
    given = {**columns, "y": -columns["age"], "day": np.arange(N)}
    with pytest.raises(ValueError, match=words):
        make_design(formula, taken(given, formula), N)


def test_a_matrix_is_checked_like_a_formula(columns):
    matrix = make_design("~ batch + line", taken(columns, "~ batch + line"), N).matrix
    given = matrix_design(matrix.astype(int), list("abcd"), N)
    assert given.matrix.dtype == np.float64
    assert given.names == ("a", "b", "c", "d")
    np.testing.assert_array_equal(given.matrix, matrix)
    for wrong, names, words in [
        (matrix[:5], "abcd", "a row for each of the 24 samples"),
        (matrix, "abc", "4 columns, which need a name each"),
        (matrix, "abca", "need a name each"),
        (matrix @ np.diag([1, 1, 1, 0]), "abcd", "'d' is zero in every sample"),
        (matrix[:, [0, 1, 1]], "abc", "'c' follows from 'b'"),
        (np.where(np.eye(N, 4), np.nan, matrix), "abcd", "'a' of the design matrix is nan in sample number 0"),
        (np.eye(N), [str(i) for i in range(N)], "24 samples for the 24 coefficients"),
    ]:
        with pytest.raises(ValueError, match=words):
            matrix_design(wrong, list(names), N)


@pytest.mark.parametrize(
    ("term", "column"),
    [
        ("I(age**2)", lambda age: age**2),
        ("I(age / 10 - 1)", lambda age: age / 10 - 1),
        ("I(age > 50)", lambda age: age > 50),
        ("np.square(age)", np.square),
        ("np.power(age, 3)", lambda age: age**3),
        ("exp2(scale(age))", lambda age: 2 ** ((age - age.mean()) / age.std(ddof=1))),
        ("standardize(age)", lambda age: (age - age.mean()) / age.std()),
    ],
)
def test_functions_of_a_covariate(columns, term, column):
    made = make_design(f"~ batch + {term}", taken(columns, "~ batch + age"), N)
    np.testing.assert_allclose(made.matrix[:, -1], column(np.asarray(columns["age"])), rtol=1e-12)


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("~ age + I(age^2)", r"a power is written I\(age\*\*2\)"),
        ("~ factor(batch)", r"a factor is written C\(batch\)"),
        ("~ as.factor(batch)", r"a factor is written C\(batch\)"),
        ("~ relevel(batch, ref='b')", "contr.treatment"),
        ("~ C(batch, Treatment('b'))", "contr.treatment"),
        ("~ ns(age, 3)", "cr\\(age, df=3\\)"),
        ("~ sqrt(age)", "np.sqrt"),
        ("~ offset(age)", "size_factors"),
        ("~ age + (1|batch)", "random effects cannot be fitted"),
        ("~ age + 1 | batch", "random effects cannot be fitted"),
        ("~ .", "columns are named one by one"),
    ],
)
def test_what_other_languages_write_is_translated(columns, formula, words):
    with pytest.raises(ValueError, match=words):
        make_design(formula, columns, N)


@pytest.mark.parametrize("formula", ["~ batch + age**2", "~ batch + age^2", "~ batch + age ** 2"])
def test_a_power_outside_brackets_is_noted(columns, formula):
    made = make_design(formula, taken(columns, "~ batch + age"), N)
    assert made.names == ("Intercept", "batch[T.b]", "age")
    assert any(note.startswith("age**2 in the design is age itself") for note in made.notes)
    for fine in (
        "~ batch + age + I(age**2)",
        "~ (batch + age)**2",
        "~ batch + {age**2}",
        "~ batch + np.log(age**2 + 1)",
    ):
        assert not any("itself" in note for note in make_design(fine, taken(columns, "~ batch + age"), N).notes)


def test_a_reduced_design_is_part_of_the_full_one(columns):
    def design(formula):
        return make_design(formula, taken(columns, formula), N)

    full = design("~ batch + line + age")
    for formula in ("~ batch", "~ 1", "~ line + age", "~ 0 + batch", "~ C(line, contr.sum)", "~ scale(age)"):
        check_nested(full, design(formula))
    check_nested(design("~ bs(age, df=5)"), design("~ age"))
    check_nested(full, matrix_design(full.matrix[:, :2] @ [[1.0], [1e5]], ["own"], N))
    with pytest.raises(ValueError, match=r"The reduced design has 'batch\[T.b\]:age', which the full design"):
        check_nested(full, design("~ batch * age"))
    with pytest.raises(ValueError, match="has 'np.log"):
        check_nested(full, design("~ np.log(age)"))
    with pytest.raises(ValueError, match="as many coefficients as the full one"):
        check_nested(full, design("~ 0 + line + batch + age"))
    with pytest.raises(ValueError, match="The full design has 24 samples, the reduced one 10"):
        check_nested(full, matrix_design(np.ones((10, 1)), ["one"], 10))


@pytest.mark.parametrize(
    "formula",
    ["~ __import__('os').system('true')", "~ np.load('x')", "~ {open('x')}", "~ C(a, __import__('os'))", "~ Q('a')"],
)
def test_a_design_never_runs_foreign_code(formula):
    with pytest.raises(ValueError, match="a design takes columns|cannot be read"):
        variables(formula)
