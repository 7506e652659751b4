"""Values that flow between operators."""

import jax
import numpy as np

from dbx.ops.values import Codes, Graph


def test_codes_and_graphs_are_leaves_of_jax_trees():
    graph = Graph(np.zeros((2, 1), np.int32), np.ones((2, 1)), np.arange(2), 2)
    codes = Codes(np.zeros(2, np.int32), ("a",))
    assert len(jax.tree.leaves(graph)) == 3
    assert len(jax.tree.leaves(codes)) == 1


def test_names_of_levels_as_numbers():
    codes = Codes(np.array([1, 0, -1], np.int32), ("10", "2.5"))
    assert codes.not_numbers == []
    np.testing.assert_array_equal(codes.numbers(), [2.5, 10, np.nan])
    assert Codes(codes.codes, ("10", "d2")).not_numbers == ["d2"]
