"""Medians of ratios by their definition."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.de.fit.size_factors import log_references, median_of_ratios, references_and_factors, size_factors


@pytest.fixture(scope="module")
def counts():
    """Counts of shape (n_samples, n_genes); a third of the genes has no zero."""
    rng = np.random.default_rng(0)
    mean = rng.lognormal(0, 0.4, (30, 1)) * rng.gamma(1, 5, 21)
    return rng.poisson(mean) + (np.arange(21) % 3 == 0) + 0.0


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("kind", ["ratio", "poscounts"])
def test_the_definition(counts, kind, wrap):
    logs = np.log(np.where(counts > 0, counts, np.nan))
    if kind == "ratio":
        reference = np.where((counts > 0).all(axis=0), logs.mean(axis=0), np.nan)
    else:
        reference = np.nansum(logs, axis=0) / 30
    expected = np.exp(np.nanmedian(logs - reference, axis=1))
    if kind == "poscounts":
        expected /= np.exp(np.log(expected).mean())
    references, factors = references_and_factors(RowBlocks(wrap(counts), dtype=np.float64), kind)
    np.testing.assert_allclose(factors, expected, rtol=1e-13)
    np.testing.assert_array_equal(np.isnan(references), (counts == 0).any(axis=0) & (kind == "ratio"))
    np.testing.assert_allclose(references, log_references(RowBlocks(counts), kind), rtol=1e-13)
    np.testing.assert_allclose(size_factors(RowBlocks(wrap(counts)), references), expected, rtol=1e-13)
    np.testing.assert_allclose(median_of_ratios(counts, references), expected, rtol=1e-13)
    with jax.enable_x64(True):
        np.testing.assert_allclose(median_of_ratios(jnp.asarray(counts), references), expected, rtol=1e-13)


def test_a_sample_depends_on_its_own_counts_and_the_references(counts):
    references = log_references(RowBlocks(counts), "ratio")
    whole = median_of_ratios(counts, references)
    np.testing.assert_array_equal(median_of_ratios(counts[:5], references), whole[:5])
    np.testing.assert_allclose(median_of_ratios(3 * counts[:1], references), 3 * whole[:1], rtol=1e-12)
    assert np.isnan(median_of_ratios(np.zeros((1, 21)), references)).all()


def test_genes_without_counts_do_not_enter():
    counts = np.array([[1.0, 0, 4], [2, 0, 8], [4, 0, 16]])
    for kind in ("ratio", "poscounts"):
        references, factors = references_and_factors(RowBlocks(counts), kind)
        np.testing.assert_array_equal(np.isnan(references), [False, True, False])
        np.testing.assert_allclose(factors, [0.5, 1, 2], rtol=1e-12)


def test_a_zero_in_every_gene_asks_for_poscounts():
    y = np.ones((12, 5)) - np.eye(12)[:, :5]
    with pytest.raises(ValueError, match='size_factors="poscounts"'):
        log_references(RowBlocks(y), "ratio")
    y[2] = 0
    with pytest.raises(ValueError, match="no counts at all.*number 2"):
        log_references(RowBlocks(y), "poscounts")
