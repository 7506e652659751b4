"""Counts are recognised by all values, not only by the first that are looked at."""

import warnings

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import dbx
from dbx.program import Slot
from dbx.program.slots.checks import AT_ONCE, looks_like_counts, refuse_counts, warn_of_counts


@pytest.mark.parametrize("value", [0.5, -1.0])
def test_one_value_that_is_no_count(value):
    x = np.ones((256, 2 * AT_ONCE // 256), np.float32)
    assert looks_like_counts(x)
    x[-1, -1] = value
    assert not looks_like_counts(x)


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_matrix])
def test_zeros_are_neither_counts_nor_logarithms(kind):
    adata = ad.AnnData(kind(np.zeros((5, 4), np.float32)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_counts(adata, Slot("X"))
    with pytest.raises(ValueError, match=r"first 5 rows of adata\.X are zero"):
        refuse_counts(adata, Slot("X"), "Communication")
    x = np.zeros((5, 4), np.float32)
    x[0, 0] = 3
    adata.X = kind(x)
    with pytest.warns(dbx.DbxWarning, match="look like raw counts"):
        warn_of_counts(adata, Slot("X"))
    with pytest.raises(ValueError, match="look like raw counts"):
        refuse_counts(adata, Slot("X"), "Communication")
