"""Letters as numbers."""

import numpy as np
import pytest

import dbx
from dbx.data.text import as_bytes
from dbx.ops.annotation.held_out import folds_of
from dbx.ops.sequence.alphabet import codes_of
from dbx.ops.sequence.groups import overlap_groups


def test_one_hot_of_letters():
    found = dbx.ops.one_hot(["ACGT", "nru"])
    np.testing.assert_allclose(found[0], np.eye(4))
    np.testing.assert_allclose(found[1], [[0.25] * 4, [0.5, 0, 0.5, 0], [0, 0, 0, 1], [0] * 4])
    np.testing.assert_array_equal(dbx.ops.one_hot("ACGT", max_length=2), [np.eye(4)[:2]])


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["ACG", "AC-G"], "Sequence 1 .* has '-' at position 2.*Gaps must be removed"),
        (["AXG"], "'X' at position 1"),
        (["Aé"], "position 1"),
        (["ACG", ""], r"1 sequences are empty \(the first is row 1\)"),
        (["", ""], "All sequences are empty"),
    ],
)
def test_other_letters_are_refused_by_position(texts, said):
    with pytest.raises(ValueError, match=said):
        dbx.ops.one_hot(texts)


def test_groups_share_words(rng):
    bases = np.array(list("ACGT"))[rng.integers(0, 4, (6, 100))]
    texts = ["".join(row) for row in bases]
    texts[1] = texts[0][40:] + texts[1][:40]  # overlapping windows
    texts[3] = texts[2]
    groups = overlap_groups(codes_of(as_bytes(texts)))
    assert groups[0] == groups[1]
    assert groups[2] == groups[3]
    assert len(np.unique(groups)) == 4


def test_folds_keep_groups_and_classes(rng):
    groups = np.repeat(np.arange(30), 4)
    codes = np.repeat(rng.integers(0, 2, 30), 4)
    folds = folds_of(groups, codes, 3, rng)
    assert all(len(np.unique(folds[groups == group])) == 1 for group in range(30))
    for code in range(2):
        sizes = np.bincount(folds[codes == code], minlength=3)
        assert sizes.max() - sizes.min() <= 4
    alone = folds_of(np.zeros(30, int), np.zeros(30, int), 3, rng)
    np.testing.assert_array_equal(np.bincount(alone), [10, 10, 10])
