"""Many cells as few pseudo-cells: the same numbers as cell by cell."""

import numpy as np
import pytest
from scipy import sparse, stats

from dbx.data import RowBlocks
from dbx.ops.de.dispersion.moments import base_moments, first_guess
from dbx.ops.de.dispersion.posterior import Posterior
from dbx.ops.de.fit import prepare
from dbx.ops.de.fit.cells import guess_of_cells, kind_sums, moments_of_cells, outliers_of_cells
from dbx.ops.de.fit.coefficients import fit_coefficients
from dbx.ops.de.fit.cooks import cooks_distance, cutoff, design_cells, max_cooks, outlier_flags, robust_dispersion
from dbx.ops.de.fit.fit_model import fit_model
from dbx.ops.de.fit.prepare import Settings
from dbx.ops.de.glm import pseudo_cells as collapse
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.de.glm.pseudo_cells import CollapsedCounts, Nodes, gene_parts, is_collapsible
from dbx.ops.de.glm.regression import moments, regression

N, N_GENES = 600, 20
RNG = np.random.default_rng(0)
HALF, LINE = RNG.integers(0, 2, (2, N))
DESIGNS = {
    "one-way": np.column_stack([np.ones(N), LINE]).astype(float),
    "additive": np.column_stack([np.ones(N), HALF, LINE]).astype(float),
}
SIZES = {
    "different": RNG.lognormal(0, 0.5, N),
    # one kind of cells of identical size factors
    "partly equal": np.where(LINE == 1, 1.3, RNG.lognormal(0, 0.3, N)),
}
SETTINGS = [("one-way", "different"), ("additive", "different"), ("additive", "partly equal")]


def counts_of(size, low=0.3, high=2000):
    """Genes with means from a third of a count to thousands; CSR of shape (n_cells, n_genes)."""
    rng = np.random.default_rng(1)
    mean = size[:, None] * np.geomspace(low, high, N_GENES) * np.exp(rng.normal(0, 0.3, (2, N_GENES)))[LINE]
    dispersion = np.tile([0.1, 0.5, 1.0, 2.0], N_GENES // 4)
    return sparse.csr_matrix(rng.negative_binomial(1 / dispersion, 1 / (1 + dispersion * mean)).astype(np.float32))


class Both:
    """The same cells, one by one and collapsed."""

    def __init__(self, design, size):
        self.design, self.size = DESIGNS[design], SIZES[size]
        blocks = RowBlocks(counts_of(self.size), dtype=np.float64)
        self.plain, self.model = GeneCounts(blocks), regression(self.design, self.size, 1e-6)
        self.nodes = Nodes(self.design, self.size)
        self.few = CollapsedCounts(blocks, self.nodes)
        self.few_model = self.few.regression(self.model)
        self.y = self.plain.take(np.arange(N_GENES))
        self.dispersion = np.tile([0.15, 0.4, 1.2, 1.8], N_GENES // 4)


@pytest.fixture(scope="module", params=SETTINGS, ids="-".join)
def both(request):
    return Both(*request.param)


def test_pseudo_cells_are_few_and_stand_for_all(both):
    assert len(both.nodes.size_factors) < 100
    np.testing.assert_allclose(both.nodes.shares.sum(axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(both.few_model.repeats.sum(), N, rtol=1e-12)
    np.testing.assert_allclose(both.few.take(np.arange(N_GENES)).sum(axis=1), both.y.sum(axis=1), rtol=1e-12)
    # a function of the size factor, summed over cells and over nodes; the design of a node is that of its cells
    for power in (-0.5, 0.5, 1):
        ours = both.few_model.repeats * both.nodes.size_factors**power
        theirs = both.size**power
        np.testing.assert_allclose(ours @ both.few_model.design, theirs @ both.design, rtol=1e-11)
    by_node = both.few.take(np.arange(N_GENES)) * np.log1p(both.nodes.size_factors)
    by_cell = both.y * np.log1p(both.size)
    np.testing.assert_allclose(by_node @ both.few_model.design, by_cell @ both.design, rtol=1e-11)
    np.testing.assert_allclose(both.few_model.lowest, np.log(1e-6 * both.nodes.size_factors), rtol=1e-12)


def test_the_likelihood_of_dispersions_is_the_same(both):
    beta = np.log(both.y.mean(axis=1))[:, None] * (np.arange(both.design.shape[1]) == 0)
    heights = []
    for counts, model in ((both.plain, both.model), (both.few, both.few_model)):
        profile = Posterior(counts, lambda at, model=model: model.means(beta[at]), model, None)
        heights.append([profile.at(np.log(d * both.dispersion), np.arange(N_GENES)) for d in (1, 0.2, 5)])
    plain, few = np.array(heights)
    np.testing.assert_allclose(few[:, 1], plain[:, 1], rtol=1e-9, atol=1e-7)
    np.testing.assert_allclose(few[1:, 0] - few[0, 0], plain[1:, 0] - plain[0, 0], rtol=1e-9, atol=1e-6)


def test_coefficients_and_errors_are_the_same(both):
    plain = fit_coefficients(both.plain, both.model, both.dispersion)
    few = fit_coefficients(both.few, both.few_model, both.dispersion)
    error = np.sqrt(np.einsum("gpp->gp", moments(both.model, both.dispersion, plain.beta).covariance))
    assert few.converged.all()
    # both end when the deviance changes by 1e-8 of itself, from other starts: 1e-8 of tens of thousands
    np.testing.assert_allclose((few.beta - plain.beta) / error, 0, atol=0.02)
    assert np.median(np.abs(few.beta - plain.beta) / error) < 1e-4
    covariance = [moments(m, both.dispersion, plain.beta).covariance for m in (both.model, both.few_model)]
    np.testing.assert_allclose(covariance[1], covariance[0], rtol=1e-9, atol=1e-14)


def test_moments_and_first_guesses_are_the_same(both):
    sums = kind_sums(both.few, both.size)
    np.testing.assert_array_equal(sums.n_cells, np.bincount(both.nodes.kind))
    for ours, theirs in zip(moments_of_cells(sums), base_moments(both.plain, both.size), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    guess = guess_of_cells(sums, both.design[both.nodes.first], both.size)
    np.testing.assert_allclose(guess, first_guess(both.y, both.design, both.size), rtol=1e-8)


def test_outliers_are_the_same(both, monkeypatch):
    beta = fit_coefficients(both.plain, both.model, both.dispersion).beta
    found, cells = moments(both.model, both.dispersion, beta), design_cells(both.design)
    robust = robust_dispersion(both.y / both.size, cells)
    p = both.design.shape[1]
    cooks = cooks_distance(both.y, found.mu, found.hat, robust, p)
    largest = max_cooks(cooks, cells, p)
    for limit in (cutoff(N, p), np.median(largest)):
        flags = outlier_flags(largest, cooks, both.y, cells, limit)
        ours = outliers_of_cells(both.few, both.size, both.few_model, both.dispersion, beta, limit)
        np.testing.assert_allclose(ours[0], largest, rtol=1e-9)
        np.testing.assert_array_equal(ours[1], flags)


def test_parts_change_nothing(both, monkeypatch):
    sums = kind_sums(both.few, both.size)
    monkeypatch.setattr(collapse, "PART_COUNTS", 700)
    parts = list(gene_parts(both.few.cells))
    assert len(parts) > 5
    np.testing.assert_array_equal(np.concatenate([np.arange(N_GENES)[part] for part in parts]), np.arange(N_GENES))
    again = CollapsedCounts(RowBlocks(counts_of(both.size)), both.nodes)
    for one, two in zip(again.tally(np.arange(N_GENES)), both.few.tally(np.arange(N_GENES)), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)
    for one, two in zip(kind_sums(again, both.size), sums, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-12)


def test_some_genes_and_genes_without_counts():
    size = SIZES["different"]
    x = counts_of(size).toarray()
    x[:, 3] = 0
    nodes = Nodes(DESIGNS["one-way"], size)
    counts = CollapsedCounts(RowBlocks(sparse.csr_matrix(x)), nodes)
    assert len(counts) == N_GENES - 1
    part = counts.only(np.array([2, 3]))
    np.testing.assert_array_equal(part.genes, [2, 4])
    np.testing.assert_array_equal(part.cells.toarray(), x[:, [2, 4]].T)
    np.testing.assert_array_equal(part.take(np.arange(2)), counts.take(np.array([2, 3])))


def test_a_kind_without_counts_has_half_a_one():
    """Firth's fit of groups of Poisson counts has a closed form: half a count more, in the silent group only."""
    size = SIZES["different"]
    rng = np.random.default_rng(2)
    x = np.column_stack([rng.poisson(5 * size * (LINE == 0)), rng.poisson(5 * size)]).astype(np.float32)
    design = DESIGNS["one-way"]
    counts = CollapsedCounts(RowBlocks(sparse.csr_matrix(x)), Nodes(design, size))
    model = counts.regression(regression(design, size, 1e-9))
    fit = fit_coefficients(counts, model, np.full(2, 1e-9))
    total = np.array([[x[k == LINE, g].sum() for k in (0, 1)] for g in (0, 1)])
    total[0, 1] = 0.5
    rate = total / [size[k == LINE].sum() for k in (0, 1)]
    np.testing.assert_allclose(
        fit.beta, np.column_stack([np.log(rate[:, 0]), np.log(rate[:, 1] / rate[:, 0])]), rtol=1e-5
    )
    error = np.sqrt(moments(model, np.full(2, 1e-9), fit.beta).covariance[:, 1, 1])
    np.testing.assert_allclose(error, np.sqrt((1 / total).sum(axis=1)), rtol=1e-4)
    np.testing.assert_allclose(counts.take(np.array([0])).sum(), x[:, 0].sum(), rtol=1e-12)  # in dispersions it is none


def test_three_larger_counts_make_an_outlier_none_where_two_kinds_are_compared():
    size, design = np.ones(N), DESIGNS["one-way"]
    x = np.random.default_rng(0).poisson(3, (N, 3)).astype(np.float32)
    first, second = np.flatnonzero(LINE == 0), np.flatnonzero(LINE == 1)
    x[first[0], :2] = 300
    x[second[:3], 1] = 400  # three more, in the other kind
    x[second, 1] += 300
    counts = CollapsedCounts(RowBlocks(sparse.csr_matrix(x)), Nodes(design, size))
    model = counts.regression(regression(design, size, 1e-6))
    beta = fit_coefficients(counts, model, np.full(3, 0.05)).beta
    largest, flags = outliers_of_cells(counts, size, model, np.full(3, 0.05), beta, 0.9 * 6.9)
    assert flags.tolist() == [largest[0] > 6.21, False, False]
    limit = min(largest[:2]) * 0.99
    assert outliers_of_cells(counts, size, model, np.full(3, 0.05), beta, limit)[1].tolist() == [True, False, False]


def test_kinds_without_replicates_have_no_outliers():
    size = SIZES["different"]
    rare = np.zeros(N)
    rare[[10, 400]] = 1
    design = np.column_stack([np.ones(N), LINE, rare])
    x = counts_of(size).toarray()[:, 8:12]
    x[10, 2] = 50_000
    counts = CollapsedCounts(RowBlocks(sparse.csr_matrix(x)), Nodes(design, size))
    model = regression(design, size, 1e-6)
    alpha = np.full(4, 0.5)
    beta = fit_coefficients(GeneCounts.of(x.T.astype(float)), model, alpha).beta
    found, cells = moments(model, alpha, beta), design_cells(design)
    cooks = cooks_distance(x.T, found.mu, found.hat, robust_dispersion(x.T / size, cells), 3)
    assert cooks[2].argmax() in (10, 400)
    ours = outliers_of_cells(counts, size, counts.regression(model), alpha, beta, 0.01)
    np.testing.assert_allclose(ours[0], max_cooks(cooks, cells, 3), rtol=1e-9)
    assert ours[0][2] < cooks[2].max() / 2


def test_which_designs_collapse():
    size = SIZES["different"]
    for design in DESIGNS.values():
        assert is_collapsible(design, size)
    each = np.column_stack([np.ones(N), np.random.default_rng(0).normal(size=N)])
    assert not is_collapsible(each, size)  # a covariate for each cell
    assert not is_collapsible(DESIGNS["additive"][:60], size[:60])  # too few cells for the nodes
    far = size.copy()
    far[0] = 1e12
    assert not is_collapsible(DESIGNS["one-way"], far)  # size factors too far apart
    assert is_collapsible(DESIGNS["one-way"], np.full(N, 2.0))


def test_when_cells_are_collapsed():
    size, counts = SIZES["different"], RowBlocks(counts_of(SIZES["different"]))

    def collapsed(rows=slice(None), design=DESIGNS["one-way"], **settings):
        part = RowBlocks(counts.rows(rows))
        return prepare.prepare(part, Settings(design[rows], size[rows], **settings)).counts.is_collapsed

    assert collapsed(min_mu=1e-6)
    assert not collapsed(min_mu=0.5)
    assert not collapsed(slice(0, 499), min_mu=1e-6)
    assert collapsed(slice(0, 500), min_mu=1e-6)
    covariate = np.column_stack([np.ones(N), np.linspace(0, 1, N)])
    assert not collapsed(design=covariate, min_mu=1e-6)


@pytest.mark.parametrize(
    ("design", "mode", "digits"),
    # in one-way designs all digits of the likelihood; else means come from iterations that ended at other digits
    [("one-way", "deseq2", 1e-9), ("additive", "exact", 2e-5)],
)
def test_the_whole_fit_is_the_same(design, mode, digits, monkeypatch):
    size = SIZES["partly equal"]
    counts = RowBlocks(counts_of(size, 2, 3000), dtype=np.float64)
    settings = Settings(DESIGNS[design], size, 1e-6, "mean", mode, replace_outliers=False)
    few = fit_model(counts, settings)
    monkeypatch.setattr(prepare, "MANY_CELLS", 10_000)
    plain = fit_model(counts, settings)
    assert few.counts.is_collapsed
    assert not plain.counts.is_collapsed
    for name in ("gene_wise", "fitted", "shrunken", "final"):
        np.testing.assert_allclose(getattr(few.dispersions, name), getattr(plain.dispersions, name), rtol=digits)
    np.testing.assert_array_equal(few.dispersions.outlier, plain.dispersions.outlier)
    np.testing.assert_allclose(few.base_mean, plain.base_mean, rtol=1e-10)
    np.testing.assert_allclose(few.base_variance, plain.base_variance, rtol=1e-9)
    np.testing.assert_allclose(few.covariance, plain.covariance, rtol=1e-3, atol=1e-9)
    np.testing.assert_allclose(few.max_cooks, plain.max_cooks, rtol=1e-2)
    np.testing.assert_array_equal(few.cooks_outlier, plain.cooks_outlier)
    assert not few.replaced.any()
    error = np.sqrt(np.einsum("gpp->gp", plain.covariance))
    np.testing.assert_allclose((few.coefficients.beta - plain.coefficients.beta) / error, 0, atol=0.02)
    assert stats.spearmanr(few.max_cooks, plain.max_cooks).statistic > 0.99
