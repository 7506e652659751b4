"""Gene selection without AnnData: definitions, merging over batches, and what it must not depend on."""

import numpy as np
import pytest
from scipy import sparse
from skmisc.loess import loess

from dbx.data import RowBlocks
from dbx.data.moments import moments
from dbx.ops.genes.highly_variable import HighlyVariable, mean_of_known
from dbx.ops.genes.highly_variable_counts import HighlyVariableCounts
from dbx.ops.genes.loess_variance import expected_sd, normalized_variances
from dbx.ops.values import Codes

N, G = 240, 150


@pytest.fixture(scope="module")
def counts():
    rng = np.random.default_rng(0)
    means, shape = rng.gamma(0.8, 3, G), rng.gamma(3, 0.5, G)
    return rng.poisson(rng.gamma(shape, means / shape, (N, G))).astype(np.float32)


@pytest.fixture(scope="module")
def log(counts):
    return np.log1p(counts / counts.sum(axis=1, keepdims=True) * 500)


@pytest.fixture(scope="module")
def batch():
    return Codes(np.random.default_rng(1).integers(0, 3, N).astype(np.int32), ("a", "b", "c"))


def fitted(cls, x, batch=None, **config):
    operator = cls(**config)
    operator.fit(x=RowBlocks(x), batch=batch)
    return operator


def table(operator):
    return {name: np.asarray(getattr(operator, name)[...]) for name in operator.outputs}


def test_normalised_variance_is_the_variance_of_clipped_standardised_counts(counts):
    x = counts.astype(np.float64)
    mean, variance = x.mean(axis=0), x.var(axis=0, ddof=1)
    model = loess(np.log10(mean), np.log10(variance), span=0.4, degree=2)
    model.fit()
    sd = np.sqrt(10**model.outputs.fitted_values)
    z = np.minimum((x - mean) / sd, np.sqrt(N))
    expected = (z**2).sum(axis=0) / (N - 1)
    assert (z == np.sqrt(N)).any() or ((x - mean) / sd).max() > 5
    found = normalized_variances(RowBlocks(counts), None, moments(RowBlocks(counts)), 0.4)[0]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_values_beyond_the_clip_count_as_the_clip():
    rng = np.random.default_rng(2)
    counts = rng.poisson(rng.gamma(2, 2, 60), (100, 60)).astype(np.float32)
    counts[0, 7] = 5000
    x = counts.astype(np.float64)
    groups = moments(RowBlocks(counts))
    model = loess(np.log10(groups.mean[0]), np.log10(groups.variance[0]), span=0.5, degree=2)
    model.fit()
    z = (x - x.mean(axis=0)) / np.sqrt(10**model.outputs.fitted_values)
    assert z[0, 7] > 10  # the square root of 100 cells
    expected = (np.minimum(z, 10) ** 2).sum(axis=0) / 99
    for wrap in (np.asarray, sparse.csr_matrix):
        found = normalized_variances(RowBlocks(wrap(counts)), None, groups, 0.5)[0]
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat_v3_paper"])
def test_counts_do_not_depend_on_order_of_cells_or_kind_of_array(counts, batch, flavor):
    order = np.random.default_rng(3).permutation(N)
    config = {"flavor": flavor, "n_top_genes": 40, "span": 0.5}
    one = table(fitted(HighlyVariableCounts, sparse.csr_matrix(counts), batch, **config))
    shuffled = Codes(batch.codes[order], batch.levels)
    two = table(fitted(HighlyVariableCounts, counts[order], shuffled, **config))
    for name in one:
        np.testing.assert_array_equal(one[name], two[name], err_msg=name)


def test_merging_ranks_of_batches(counts, batch):
    by_batch = [
        table(fitted(HighlyVariableCounts, counts[batch.codes == b], n_top_genes=40, span=0.5)) for b in range(3)
    ]
    ranks = np.stack([t["highly_variable_rank"] for t in by_batch])
    known = np.isfinite(ranks)
    rank = np.array([np.median(r[k]) if k.any() else np.inf for r, k in zip(ranks.T, known.T, strict=True)])
    n_batches = known.sum(axis=0)
    keys = {"seurat_v3": list(zip(rank, -n_batches, range(G), strict=True))}
    keys["seurat_v3_paper"] = list(zip(-n_batches, rank, range(G), strict=True))
    flags = {}
    for flavor, key in keys.items():
        found = table(fitted(HighlyVariableCounts, counts, batch, flavor=flavor, n_top_genes=40, span=0.5))
        np.testing.assert_array_equal(found["highly_variable_nbatches"], n_batches)
        np.testing.assert_array_equal(found["highly_variable_rank"], np.where(np.isinf(rank), np.nan, rank))
        np.testing.assert_array_equal(
            found["variances_norm"], np.stack([t["variances_norm"] for t in by_batch]).mean(axis=0)
        )
        flags[flavor] = found["highly_variable"]
        assert set(np.flatnonzero(flags[flavor])) == {gene for *_, gene in sorted(key)[:40]}
    assert (flags["seurat_v3"] != flags["seurat_v3_paper"]).any()


def test_merging_dispersions_of_batches(log, batch):
    log = log.copy()
    log[batch.codes == 0, 4] = 0
    parts = [
        table(fitted(HighlyVariable, log[batch.codes == b], n_top_genes=40, filter_unexpressed_genes=True))
        for b in range(3)
    ]
    found = table(fitted(HighlyVariable, log, batch, n_top_genes=40))
    for name in ("means", "dispersions", "dispersions_norm"):
        expected = np.nanmean(np.stack([part[name] for part in parts]), axis=0)
        np.testing.assert_allclose(found[name], expected, rtol=1e-10, err_msg=name)
    n_batches = np.stack([part["highly_variable"] for part in parts]).sum(axis=0)
    np.testing.assert_array_equal(found["highly_variable_nbatches"], n_batches)
    np.testing.assert_array_equal(found["highly_variable_intersection"], n_batches == 3)
    best = sorted(range(G), key=lambda g: (-n_batches[g], -found["dispersions_norm"][g], g))[:40]
    assert set(np.flatnonzero(found["highly_variable"])) == set(best)
    assert (parts[0]["dispersions_norm"][4], parts[0]["means"][4]) == (0, 0)


def test_bounds_are_exclusive_and_none_is_none(log):
    free = table(fitted(HighlyVariable, log))
    means, norm = free["means"], np.nan_to_num(free["dispersions_norm"])
    np.testing.assert_array_equal(free["highly_variable"], (means > 0.0125) & (means < 3) & (norm > 0.5))
    gene = np.flatnonzero(free["highly_variable"])[0]
    bounds = {"min_mean": None, "max_mean": None, "min_disp": float(norm[gene])}
    strict = table(fitted(HighlyVariable, log, **bounds, max_disp=float(norm.max())))["highly_variable"]
    np.testing.assert_array_equal(strict, (norm > norm[gene]) & (norm < norm.max()))


def test_the_base_of_the_logarithm_is_taken_back(log):
    natural = table(fitted(HighlyVariable, log.astype(np.float64), n_top_genes=30))
    binary = table(fitted(HighlyVariable, log.astype(np.float64) / np.log(2), n_top_genes=30, log_base=2))
    for name in natural:
        np.testing.assert_allclose(binary[name], natural[name], rtol=1e-9, err_msg=name)


def test_a_selection_computes_nothing_for_cells(log):
    assert fitted(HighlyVariable, log, n_top_genes=5)(log) == {}


def test_counts_in_place_of_logarithms_overflow_in_words():
    with pytest.raises(ValueError, match="look like raw counts"):
        fitted(HighlyVariable, np.full((10, 4), 500, np.float32) * np.arange(1, 5))


@pytest.mark.parametrize(("cls", "wrong"), [(HighlyVariable, "seurat_v3"), (HighlyVariableCounts, "seurat")])
def test_an_unknown_flavour_is_an_error(cls, wrong):
    with pytest.raises(ValueError, match="`flavor` needs to be"):
        cls(flavor=wrong)


def test_means_over_batches_skip_what_is_unknown():
    values = np.array([[1.0, np.nan, np.nan], [3.0, 2.0, np.nan]])
    np.testing.assert_array_equal(mean_of_known(values), [2.0, 2.0, np.nan])


@pytest.mark.parametrize(("n_genes", "span"), [(1, 0.3), (3, 0.3), (9, 0.1)])
def test_genes_too_few_for_a_local_regression_are_refused(n_genes, span):
    """scikit-misc's loess would read beyond its arrays, which ends the process."""
    mean = np.linspace(1.0, 2.0, n_genes)
    with pytest.raises(ValueError, match=f"{n_genes} genes vary"):
        expected_sd(mean, 2 * mean, span)
