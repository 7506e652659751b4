"""Residual variances beside scanpy's, and of batches by hand."""

import warnings

import anndata as ad
import numpy as np
import pytest
import scanpy as sc
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.genes import pearson_residuals
from dbx.ops.genes.pearson_residuals import THETA, residual_variances


@pytest.fixture
def counts(rng):
    level = rng.gamma(0.5, 1, 60) * rng.gamma(2, 1, (150, 1)) * rng.gamma(2, 0.5, (150, 60))
    counts = rng.poisson(level).astype(np.float32)
    counts[:, 7] = 0
    counts[:, 0] += 1
    return counts


def test_one_batch_as_scanpy(counts):
    expressed = counts.sum(axis=0) > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reference = sc.experimental.pp.highly_variable_genes(
            ad.AnnData(counts[:, expressed]), flavor="pearson_residuals", n_top_genes=10, theta=THETA, inplace=False
        )
    found = residual_variances(RowBlocks(counts), np.zeros(150, int), 1)
    np.testing.assert_allclose(found[expressed], reference["residual_variances"], rtol=1e-5)
    assert found[7] == 0


def test_batches_by_hand_whatever_the_container(counts, monkeypatch):
    codes = np.random.default_rng(1).integers(0, 3, 150)
    expected = np.zeros(60)
    for batch in range(3):
        x = counts[codes == batch].astype(float)
        mean = np.outer(x.sum(axis=1), x.sum(axis=0)) / x.sum()
        with np.errstate(invalid="ignore"):
            residuals = np.nan_to_num((x - mean) / np.sqrt(mean + mean**2 / THETA))
        expected += len(x) / 150 * residuals.clip(-np.sqrt(len(x)), np.sqrt(len(x))).var(axis=0)
    for x in (counts, sparse.csr_matrix(counts), sparse.csc_matrix(counts)):
        np.testing.assert_allclose(residual_variances(RowBlocks(x), codes, 4), expected, rtol=1e-6, atol=1e-9)
    monkeypatch.setattr(pearson_residuals, "ENTRIES", 300)
    np.testing.assert_allclose(residual_variances(RowBlocks(counts), codes, 4), expected, rtol=1e-6, atol=1e-9)
