"""Designs within groups: what is dropped, what is skipped and why, and that a contrast means the same in all."""

import numpy as np
import pytest

from dbx.data import RowBlocks
from dbx.ops.de.design.design import make_design
from dbx.ops.de.design.group_designs import group_designs
from dbx.ops.de.design.pseudobulk import sample_columns, sum_samples
from dbx.ops.values import Codes

# one cell for each sample and group; samples 0..11: condition A A A A B B B B C C C C, batch p q p q ...
SAMPLES = tuple(f"s{i}" for i in range(12))
CONDITION = np.repeat([0, 1, 2], 4)


def summed_without(absent):
    """All samples in groups "all" and "part", the latter without the samples ``absent``."""
    of_part = [i for i in range(12) if i not in absent]
    sample = np.array([*range(12), *of_part])
    group = np.array([0] * 12 + [1] * len(of_part))
    codes = [Codes(x.astype(np.int32), y) for x, y in ((sample, SAMPLES), (group, ("all", "part", "none")))]
    summed = sum_samples(RowBlocks(np.ones((len(sample), 2))), *codes)
    columns = {
        "condition": Codes(CONDITION[sample].astype(np.int32), ("A", "B", "C")),
        "batch": Codes((sample % 2).astype(np.int32), ("p", "q")),
        "age": sample**2 / 100,
    }
    return sample_columns(columns, summed, "type"), summed


def names(found):
    return {one.group: one.design.names for one in found}


def test_each_group_has_the_design_of_its_rows():
    columns, summed = summed_without([0, 5])
    found, skipped = group_designs("~ age + condition", columns, summed, ("condition", "C", "B"), "~ age")
    assert [one.group for one in found] == ["all", "part"]
    assert skipped == {"none": "No sample has enough cells of it."}
    for one in found:
        np.testing.assert_array_equal(
            one.rows, np.flatnonzero(summed.group.codes == summed.group.levels.index(one.group))
        )
        of_rows = {
            "age": columns["age"][one.rows],
            "condition": Codes(columns["condition"].codes[one.rows], ("A", "B", "C")),
        }
        np.testing.assert_array_equal(
            one.design.matrix, make_design("~ age + condition", of_rows, len(one.rows)).matrix
        )
        np.testing.assert_array_equal(one.weights, [0, 0, -1, 1])
        assert one.reduced.names == ("Intercept", "age")
        assert len(one.reduced.matrix) == len(one.rows)


def test_levels_that_are_absent_are_dropped():
    columns, summed = summed_without([4, 5, 6, 7])
    found, _ = group_designs("~ batch + condition", columns, summed, ("condition", "C", "A"))
    assert names(found)["part"] == ("Intercept", "batch[T.q]", "condition[T.C]")
    assert found[1].weights.tolist() == [0, 0, 1]
    assert "dropped: 'B'" in found[1].design.notes[0]


@pytest.mark.parametrize(
    ("formula", "absent", "contrast", "reason"),
    [
        ("~ condition", [4, 5, 6, 7], ("condition", "B", "A"), "no level 'B'"),
        ("~ condition", [8, 9, 10, 11], None, r"no coefficient 'condition\[T.C\]'"),  # and not B, the last one left
        ("~ condition", [0, 1, 2, 3], "condition[T.C]", "No sample has condition 'A'"),  # it would compare with B
        ("~ condition", [0, 1, 2, 3], None, "No sample has condition 'A'"),
        ("~ condition", [0, 1, 2, 3, 4, 5, 6, 7], None, "the one level 'C'"),
        ("~ condition", [0, 1, 2, 3, 4, 5, 6, 8, 9, 10], ("condition", "C", "B"), "2 samples for the 2 coefficients"),
        ("~ batch + condition", [1, 3, 5, 7, 8, 10], ("condition", "C", "A"), "confounded"),
        ("~ condition * age", [0, 1, 2, 3], "condition[T.C]:age", "No sample has condition 'A'"),
        ("~ condition", [4, 5, 6, 7], [0, -1, 1], "one for each of the 2"),
        ("~ condition + age", [1, 3], ("age", "1", "2"), None),
    ],
)
def test_groups_where_the_contrast_cannot_be_tested_are_skipped(formula, absent, contrast, reason):
    columns, summed = summed_without(absent)
    if reason is None:  # wrong in every group: said at once
        with pytest.raises(ValueError, match="^'age' is a number"):
            group_designs(formula, columns, summed, contrast)
        return
    found, skipped = group_designs(formula, columns, summed, contrast)
    assert [one.group for one in found] == ["all"]
    assert list(skipped) == ["part", "none"]
    with pytest.raises(ValueError, match=reason):
        raise ValueError(skipped["part"])


@pytest.mark.parametrize(
    ("formula", "absent", "contrast", "weights"),
    [
        ("~ condition", [0, 1, 2, 3], ("condition", "C", "B"), [0, 1]),  # levels do not care for the reference
        ("~ condition", [0, 1, 2, 3], "conditionC - conditionB", [0, 1]),
        ("~ condition + batch", [0, 1, 2, 3], "batch[T.q]", [0, 0, 1]),  # a factor beside it may lose its reference
        ("~ condition + batch", [0, 2, 4, 6, 8, 10], None, None),
        ("~ condition", [4, 5, 6, 7], "condition[T.C]", [0, 1]),
    ],
)
def test_groups_where_it_means_the_same_are_kept(formula, absent, contrast, weights):
    columns, summed = summed_without(absent)
    found, skipped = group_designs(formula, columns, summed, contrast)
    if weights is None:
        assert "the one level 'q'" in skipped["part"]
    else:
        assert found[1].weights.tolist() == weights


def test_the_reference_of_an_interacting_factor_matters():
    columns, summed = summed_without([0, 1, 2, 3])
    _, skipped = group_designs("~ condition * batch", columns, summed, ("batch", "q", "p"))
    assert "No sample has condition 'A'" in skipped["part"]  # there it would be the effect in B


def test_no_group_at_all():
    columns, summed = summed_without([])
    with pytest.raises(
        ValueError, match=r"(?s)No group can be tested.*'all': .*12 samples for the 12 coefficients.*'part': "
    ):
        group_designs("~ age + age:condition + condition + batch:age:condition + batch*condition", columns, summed)
    with pytest.raises(ValueError, match="^There is no coefficient 'conditionX'"):
        group_designs("~ condition", columns, summed, "conditionX")
    with pytest.raises(ValueError, match="(?s)No group can be tested.*'all': The reduced design has 'age'"):
        group_designs("~ condition", columns, summed, None, "~ age")
