"""Rows that are held out to judge a training."""

import numpy as np

from dbx.ops.annotation.held_out import held_out_rows


def test_a_fraction_of_each_class_is_held_out(rng):
    codes = rng.permutation(np.repeat([0, 1, 2], [50, 20, 3]))
    found = held_out_rows(codes, 0.2, rng)
    assert (np.diff(found) > 0).all()
    np.testing.assert_array_equal(np.bincount(codes[found]), [10, 4, 1])
    assert not len(held_out_rows(codes, 0.0, rng))
    assert not len(held_out_rows(codes, 0.2, rng, fewest=4))
    assert not len(held_out_rows(np.append(codes, 3), 0.2, rng)), "a class would keep no row"


def test_groups_are_held_out_whole(rng):
    groups, codes = np.repeat(np.arange(40), 3), np.tile(np.repeat([0, 1], 3), 20)
    found = held_out_rows(codes, 0.2, rng, groups=groups)
    assert not set(groups[found]) & set(np.delete(groups, found))
    np.testing.assert_array_equal(np.bincount(codes[found]), [12, 12])
