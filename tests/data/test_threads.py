"""Parts of rows in threads, and adding sparse rows to dense ones."""

import numpy as np
import pytest
from scipy import sparse

from dbx.data.reading import add_rows
from dbx.data.threads import PARTS, in_threads, map_in_threads, row_slices, rows_at_once


@pytest.mark.parametrize(("n_rows", "at_least"), [(1, 1), (7, 1), (8, 1), (1000, 1), (1000, 400), (1000, 5000)])
def test_parts_cover_every_row_in_order(n_rows, at_least):
    parts = in_threads(lambda part: list(range(part.start, part.stop)), n_rows, at_least)
    assert [row for part in parts for row in part] == list(range(n_rows))
    assert len(parts) <= PARTS
    assert all(len(part) >= at_least for part in parts[:-1])


def test_slices_within_a_part():
    assert list(row_slices(slice(5, 12), 3)) == [slice(5, 8), slice(8, 11), slice(11, 12)]
    assert list(row_slices(slice(5, 7), 0)) == [slice(5, 6), slice(6, 7)]


def test_an_error_in_a_thread_is_raised():
    def fail(part):
        if part.start > 0:
            raise MemoryError("of a thread")

    with pytest.raises(MemoryError, match="of a thread"):
        in_threads(fail, 100)


def test_a_wide_matrix_still_has_a_row_at_once():
    assert rows_at_once(10**6, 10) == 1
    assert rows_at_once(0, 0) > 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("indices", [np.int32, np.int64])
def test_sparse_rows_are_added(rng, dtype, indices):
    x = sparse.random(30, 20, 0.2, format="csr", dtype=dtype, random_state=0)
    x.indices, x.indptr = x.indices.astype(indices), x.indptr.astype(indices)
    dense = rng.normal(size=(30, 20)).astype(dtype)
    expected = dense.copy()
    expected[4:17] += x.toarray()[4:17]
    add_rows(x, slice(4, 17), dense[4:17])
    np.testing.assert_array_equal(dense, expected)


def test_items_are_mapped_in_order_and_drawn_as_needed():
    drawn = []

    def items():
        for item in range(50):
            drawn.append(item)
            yield item

    results = map_in_threads(lambda item: item**2, items(), 3)
    assert [next(results), next(results)] == [0, 1]
    assert len(drawn) <= 6
    assert list(results) == [item**2 for item in range(2, 50)]
