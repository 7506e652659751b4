"""A fingerprint knows its values again after subsetting, and notices a change."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from dbx.program.slots.fingerprint import same, slot_fingerprint
from dbx.program.slots.hashes import name_hashes, row_digests

N_CELLS, N_GENES = 500, 300


@pytest.fixture(scope="module")
def matrix():
    rng = np.random.default_rng(0)
    values = sparse.csr_matrix(rng.poisson(0.5, (N_CELLS, N_GENES)).astype(np.float32))
    cells = pd.Index([f"cell{i}" for i in range(N_CELLS)])
    genes = pd.Index([f"gene{i}" for i in range(N_GENES)])
    return ad.AnnData(values, obs=pd.DataFrame(index=cells), var=pd.DataFrame(index=genes))


def of(adata):
    return slot_fingerprint(adata.X, adata.obs_names, adata.var_names)


@pytest.mark.parametrize(
    "kind", [sparse.csc_matrix, lambda x: x.toarray(), lambda x: x.astype(np.float64), sparse.csr_array]
)
def test_the_storage_does_not_matter(matrix, kind):
    other = matrix.copy()
    other.X = kind(matrix.X)
    assert same(of(matrix), of(other)) is True


@pytest.mark.parametrize(
    "index",
    [
        (slice(0, 200), slice(None)),
        (slice(None), slice(50, 250)),
        (slice(0, 300), slice(0, 200)),
        (np.random.default_rng(1).permutation(N_CELLS), np.random.default_rng(2).permutation(N_GENES)),
    ],
    ids=["cells", "genes", "both", "shuffled"],
)
def test_a_subset_is_recognised_and_a_changed_subset_is_not(matrix, index):
    part = matrix[index].copy()
    assert same(of(matrix), of(part)) is True
    part.X = part.X * 1.01
    assert same(of(matrix), of(part)) is False


def test_one_changed_gene_or_cell_is_noticed(matrix):
    for change in ("gene", "cell"):
        dense = matrix.X.toarray()
        if change == "gene":
            dense[:, 7] = 0
        else:
            dense[7] *= 3
        other = matrix.copy()
        other.X = sparse.csr_matrix(dense)
        assert same(of(matrix), of(other)) is False


def test_too_little_in_common_is_not_judged(matrix):
    assert same(of(matrix), of(matrix[:3, :3].copy())) is None
    assert same(None, of(matrix)) is None


def test_columns_of_categories_do_not_depend_on_category_order():
    names = pd.Index([f"c{i}" for i in range(6)])
    values = ["a", "b", "a", "c", "b", "a"]
    one = slot_fingerprint(pd.Categorical(values, categories=["a", "b", "c"]), names, None)
    two = slot_fingerprint(pd.Series(values, dtype=object), names, None)
    assert same(one, two) is True
    three = slot_fingerprint(pd.Categorical(["a", "b", "a", "c", "b", "c"]), names, None)
    assert same(one, three) is False


def test_name_hashes_are_the_same_everywhere():
    # literal values: a program saved on one machine is read on another
    np.testing.assert_array_equal(name_hashes(["GAPDH", "ACTB"]) >> np.uint64(20), NAME_HASHES)


NAME_HASHES = np.array([5724783725, 304972401], dtype=np.uint64)


def test_row_digests_know_rows_wherever_they_stand():
    rng = np.random.default_rng(0)
    values, names = rng.normal(size=(50, 7)).astype(np.float32), name_hashes([f"c{i}" for i in range(50)])
    digests = row_digests(values, names)
    order = rng.permutation(50)[:20]
    np.testing.assert_array_equal(row_digests(values[order], names[order]), digests[order])
    values[3, 2] = np.nextafter(values[3, 2], 9)
    changed = row_digests(values, names) != digests
    assert changed.nonzero()[0].tolist() == [3]
