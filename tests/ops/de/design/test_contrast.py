"""Contrasts by hand: names, levels, combinations of them, and what is said of wrong ones."""

import numpy as np
import pytest

from dbx.ops.de.design.contrast import contrast_all_zero, contrast_vector
from dbx.ops.de.design.design import make_design, matrix_design, variables
from dbx.ops.values import Codes

N = 24
COLUMNS = {
    "dex": Codes((np.arange(N) % 2).astype(np.int32), ("untrt", "trt")),
    "line": Codes((np.arange(N) // 2 % 3).astype(np.int32), ("x", "y", "z")),
    "condition": Codes((np.arange(N) % 4).astype(np.int32), ("A", "B", "C-1", "C")),
    "batch": np.arange(N) // 8 + 1,
    "cell type": Codes((np.arange(N) // 2 % 2).astype(np.int32), ("B cell", "T cell")),
    "age": np.random.default_rng(0).normal(50, 8, N),
}


def design(formula):
    return make_design(formula, {name: COLUMNS[name] for name in variables(formula)}, N)


@pytest.mark.parametrize(
    ("formula", "contrast", "expected"),
    [
        ("~ dex + line", None, [0, 0, 0, 1]),
        ("~ dex + line", "line[T.y]", [0, 0, 1, 0]),
        ("~ dex + line", ("line", "z", "y"), [0, 0, -1, 1]),
        ("~ dex + line", ["line", "x", "z"], [0, 0, 0, -1]),
        ("~ 0 + line", ("line", "y", "x"), [-1, 1, 0]),
        ("~ 0 + line + dex", ("line", "y", "x"), [-1, 1, 0, 0]),
        ("~ dex * line", ("line", "y", "x"), [0, 0, 1, 0, 0, 0]),  # of untreated
        ("~ age + dex", ("dex", "trt", "untrt"), [0, 0, 1]),
        ("~ C(batch)", ("batch", 3, 2), [0, -1, 1]),
        ("~ `cell type`", ("cell type", "T cell", "B cell"), [0, 1]),
    ],
)
def test_two_levels_or_the_last_coefficient(formula, contrast, expected):
    np.testing.assert_array_equal(contrast_vector(design(formula), contrast), expected)


LEVELS = {
    "flag": Codes((np.arange(N) % 2).astype(np.int32), ("False", "True")),
    "dose": Codes((np.arange(N) % 3).astype(np.int32), ("0", "0.5", "2.0")),
    "half": Codes((np.arange(N) % 3).astype(np.int32), ("1", "1.0", "2")),
    "on": np.arange(N) % 2,
}


@pytest.mark.parametrize(
    ("formula", "contrast", "expected"),
    [
        ("~ flag", ("flag", True, False), [0, 1]),
        ("~ flag", ("flag", np.False_, np.True_), [0, -1]),
        ("~ flag", ("flag", 1, 0), [0, 1]),
        ("~ dose", ("dose", 2, 0), [0, 0, 1]),
        ("~ dose", ("dose", np.float32(0.5), np.int64(2)), [0, 1, -1]),
        ("~ dose", ("dose", "2.0", 0.0), [0, 0, 1]),
        ("~ half", ("half", "2", "1.0"), [0, -1, 1]),  # the level of this very name
        ("~ C(on)", ("on", True, False), [0, 1]),
        ("~ C(on)", ("on", 1.0, 0), [0, 1]),
    ],
)
def test_levels_are_named_by_their_value(formula, contrast, expected):
    of_design = make_design(formula, {name: LEVELS[name] for name in variables(formula)}, N)
    np.testing.assert_array_equal(contrast_vector(of_design, contrast), expected)
    compared = contrast_all_zero(of_design, contrast)
    assert 0 < compared.sum() == sum((of_design.matrix == row).all(axis=1).sum() for row in _rows(of_design, contrast))


def _rows(of_design, contrast):
    """Rows of the design of the two levels."""
    column = of_design.frame[contrast[0]]
    wanted = [float({"True": 1, "False": 0}.get(str(part), part)) for part in contrast[1:]]
    numbers = np.array([float({"True": 1, "False": 0}.get(name, name)) for name in column])
    if "1.0" in column.cat.categories:
        numbers[np.array(column == "1")] = np.nan
    return np.unique(of_design.matrix[np.isin(numbers, wanted)], axis=0)


def test_a_value_that_no_level_has_is_named():
    of_design = make_design("~ dose", {"dose": LEVELS["dose"]}, N)
    with pytest.raises(ValueError, match="no level '3'; it has '0', '0.5', '2.0'"):
        contrast_vector(of_design, ("dose", 3, 0))
    of_design = make_design("~ half", {"half": LEVELS["half"]}, N)
    with pytest.raises(ValueError, match=r"no level '1.00'"):  # two levels are this number
        contrast_vector(of_design, ("half", "1.00", "2"))


def test_other_factors_are_at_their_reference():
    vector = contrast_vector(design('~ C(dex, contr.treatment("trt")) * line'), ("line", "z", "x"))
    np.testing.assert_array_equal(vector, [0, 0, 0, 1, 0, 0])  # of treated, the reference, though untrt comes first


def test_columns_of_covariates_are_zero():
    of_design = design("~ dex * age")
    vector = dict(zip(of_design.names, contrast_vector(of_design, ("dex", "trt", "untrt")), strict=True))
    assert vector == {"Intercept": 0, "dex[T.trt]": 1, "age": 0, "dex[T.trt]:age": 0}


def test_slopes_are_compared_at_the_covariates_mean_where_there_is_nothing_else():
    of_design = design("~ dex:age")
    vector = contrast_vector(of_design, ("dex", "trt", "untrt"))
    np.testing.assert_allclose(np.abs(vector).max(), COLUMNS["age"].mean())


@pytest.mark.parametrize(
    ("formula", "name", "at"),
    [
        ("~ line + dex", "dex_trt_vs_untrt", 3),
        ("~ line + dex", "Intercept", 0),
        ('~ line + C(dex, contr.treatment("trt"))', "dex_untrt_vs_trt", 3),
        ('~ line + C(dex, contr.treatment("trt"))', 'C(dex, contr.treatment("trt"))[T.untrt]', 3),
        ("~ C(dex, contr.SAS) + line", "dex_untrt_vs_trt", 1),
        ("~ line * dex", "linez.dextrt", 5),  # resultsNames(dds)
        ("~ line * dex", "linez:dextrt", 5),  # model.matrix
        ("~ condition", "condition_C.1_vs_A", 2),
        ("~ condition", "condition_C-1_vs_A", 2),
        ("~ C(batch)", "batch_2_vs_1", 1),
        ("~ 0 + line", "liney", 1),
    ],
)
def test_names_as_in_r(formula, name, at):
    of_design = design(formula)
    np.testing.assert_array_equal(contrast_vector(of_design, name), np.eye(len(of_design.names))[at])


@pytest.mark.parametrize(
    ("formula", "text", "expected"),
    [
        ("~ condition", "conditionB - conditionA", [0, 1, 0, 0]),
        ("~ condition", "conditionA-conditionB", [0, -1, 0, 0]),
        ("~ condition", "conditionC - conditionB", [0, -1, 0, 1]),
        ("~ condition", "conditionC-1-conditionB", [0, -1, 1, 0]),  # the longest name that fits is a level
        ("~ condition", "(conditionB + conditionC)/2 - conditionA", [0, 0.5, 0, 0.5]),
        ("~ 0 + condition", "conditionB - conditionA", [-1, 1, 0, 0]),
        ("~ line + dex", "dex[T.trt] - 0.5*line[T.z]", [0, 0, -0.5, 1]),
        ("~ line + dex", "-(line[T.z] - line[T.y]) * 2e0 / 4", [0, 0.5, -0.5, 0]),
        ("~ line + dex", "dex_trt_vs_untrt + line_z_vs_x", [0, 0, 1, 1]),
        ("~ line * dex", "dex[T.trt] + line[T.y]:dex[T.trt]", [0, 0, 0, 1, 1, 0]),
        ("~ bs(age, df=3) + dex", "bs(age, df=3)[1] - bs(age, df=3)[3]", [0, 1, 0, -1, 0]),
        ("~ C(line, contr.sum)", "linez - linex", [0, -2, -1]),
        ("~ dex / line", "dex[trt]:line[T.y] - dex[untrt]:line[T.y]", [0, 0, -1, 1, 0, 0]),
    ],
)
def test_linear_combinations(formula, text, expected):
    np.testing.assert_allclose(contrast_vector(design(formula), text), expected)


def test_weights_are_taken_as_they_are():
    np.testing.assert_array_equal(contrast_vector(design("~ line"), [0, -1, 0.5]), [0, -1, 0.5])
    np.testing.assert_array_equal(contrast_vector(design("~ line"), np.array([0, 1, 1])), [0, 1, 1])


def test_a_matrix_has_names_only():
    given = matrix_design(design("~ dex + line").matrix, ["one", "treated", "y", "z"], N)
    np.testing.assert_array_equal(contrast_vector(given, None), [0, 0, 0, 1])
    np.testing.assert_array_equal(contrast_vector(given, "treated - (y + z)/2"), [0, 1, -0.5, -0.5])
    assert contrast_all_zero(given, "treated - y") is None
    with pytest.raises(ValueError, match="no factors.*'one', 'treated', 'y', 'z'"):
        contrast_vector(given, ("dex", "trt", "untrt"))


def test_samples_of_either_level():
    of_design = design("~ line + dex")
    expected = np.isin(COLUMNS["line"].codes, [0, 2])
    np.testing.assert_array_equal(contrast_all_zero(of_design, ("line", "z", "x")), expected)
    np.testing.assert_array_equal(contrast_all_zero(of_design, "linez - linex"), expected)
    for other in (None, "line[T.z]", "2*linez - 2*linex", [0, 1, 0, 0]):
        assert contrast_all_zero(of_design, other) is None
    with pytest.raises(ValueError, match="no level 'w'"):
        contrast_all_zero(of_design, ("line", "w", "x"))


@pytest.mark.parametrize(
    ("contrast", "words"),
    [
        ("nope", r"no coefficient 'nope' in the design ~ line \+ dex; there are 'Intercept', 'line\[T.y\]'"),
        ("dex_trt_vs_untrtd", r"no coefficient 'dex_trt_vs_untrtd'.*Did you mean 'dex_trt_vs_untrt'\?"),
        ("line[T.w] - line[T.y]", r"no coefficient 'line\[T.w\]'.*Did you mean 'line\[T"),
        ("dextrt", r"'dextrt' takes means of levels of 'dex' whose weights do not sum to zero.*'dex\[T.trt\]'"),
        ("2*linez - linex", "levels of 'line' whose weights do not sum to zero"),
        ("linex - 2*linez", "levels of 'line' whose weights do not sum to zero"),
        ("linez + linex", "levels of 'line' whose weights do not sum to zero"),
        ("linez - dextrt", "whose weights do not sum to zero"),
        ("linez - linez", "compares 'z' with itself"),
        ("line[T.z] - line[T.z]", "is zero"),
        ("line[T.z] - 1", "must be a linear combination"),
        ("line[T.z] * dex[T.trt]", "must be a linear combination"),
        ("1 / line[T.z]", "must be a linear combination"),
        ("line[T.z] / 0", "must be a linear combination"),
        ("line[T.z] ** 2", "cannot be read"),
        ("line[T.z] line[T.y]", "cannot be read"),
        ("(line[T.z]", "cannot be read"),
        ("line[T.z](2)", "cannot be read"),
        ("2", "names no coefficient"),
        ("", "cannot be read"),
        (("line", "w", "x"), "'line' has no level 'w'; it has 'x', 'y', 'z'"),
        (("dex", "trtd", "untrt"), r"no level 'trtd'.*Did you mean 'trt'\?"),
        (("lines", "y", "x"), r"no factor 'lines' in .*; there are 'dex', 'line'. Did you mean 'line'\?"),
        (("line", "x"), "factor, level, reference"),
        ([0, 1], "one for each of the 4 coefficients"),
        ([0, 0, 0, 0], "not zero"),
        ([0, np.nan, 0, 0], "finite"),
    ],
)
def test_wrong_contrasts_are_explained(contrast, words):
    with pytest.raises(ValueError, match=words):
        contrast_vector(design("~ line + dex"), contrast)


def test_a_covariate_has_no_levels():
    with pytest.raises(ValueError, match="'age' is a number"):
        contrast_vector(design("~ dex + age"), ("age", "1", "2"))


def test_a_name_that_means_two_levels_is_refused():
    codes = COLUMNS["dex"].codes
    columns = {"a": Codes(codes, ("bc", "d")), "ab": Codes(np.roll(codes, 1) * (np.arange(N) > 3), ("c", "e"))}
    of_design = make_design("~ a + ab", columns, N)
    with pytest.raises(ValueError, match="'abc' can be read as two levels"):
        contrast_vector(of_design, "abc - abe")
    assert contrast_vector(of_design, ("ab", "e", "c")).tolist() == [0, 0, 1]
