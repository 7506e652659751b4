"""Sums of the largest values of each row beside sorted rows."""

import numpy as np
import pytest
from scipy import sparse

from dbx.data import csr
from dbx.ops.quality.top_genes import LARGE, top_sums

POSITIONS = (1, 3, 10, 50)
VALUES = {
    "counts": lambda x: x,
    "large": lambda x: x * 90,
    "all large": lambda x: x * (LARGE + 5),
    "fractions": lambda x: x * 0.37,
    "one fraction": lambda x: np.where(np.arange(x.size).reshape(x.shape) == x.size - 1, 0.5, x),
    "below zero": lambda x: -x,
}


@pytest.mark.parametrize("chunk", [11, 1 << 18])
@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", VALUES)
def test_sums_of_sparse_rows(case, dtype, chunk, monkeypatch):
    monkeypatch.setattr(csr, "CHUNK", chunk)
    counts = np.random.default_rng(0).poisson(0.8, (30, 50)).astype(dtype)
    counts[[0, 13]] = 0
    x = sparse.csr_matrix(VALUES[case](counts).astype(dtype))
    rows = [np.sort(row.data.astype(np.float64))[::-1] for row in (x[i] for i in range(x.shape[0]))]
    expected = [[row[:n].sum() for n in POSITIONS] for row in rows]
    np.testing.assert_allclose(np.transpose(top_sums(x, POSITIONS)), expected, rtol=1e-6, atol=1e-6)
    if "fraction" not in case:
        np.testing.assert_array_equal(np.transpose(top_sums(x, POSITIONS)), expected)
