"""Negative binomial regressions against statsmodels, scipy's optimisers and R's DESeq2.

``tests/reference/deseq2_simulated.npz``: counts drawn for this purpose (negative binomial, 12 samples, 2000 genes), and
what R 4.2.2 with DESeq2 1.38.3 made of them (design ~ batch + age + condition; every seventh gene; nine digits).
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import statsmodels.api as sm
from scipy import optimize, sparse, special, stats

from dbx.data import RowBlocks
from dbx.ops import nb_glm
from dbx.ops.de.coefficients import fit_coefficients, sweep
from dbx.ops.de.dispersion import SMALLEST, adjusted_likelihood, adjusted_slope, fit_dispersion
from dbx.ops.nb_glm import NBGLM
from dbx.ops.de.likelihood import dispersion_likelihood, dispersion_slope, log_rising
from dbx.ops.de.size_factors import log_references, median_of_ratios
from dbx.ops.values import Codes

N_CELLS, N_GENES = 60, 14
FLOOR = 1e-6


@pytest.fixture(scope="module")
def data():
    """Counts of genes with dispersions from 0.02 to 3, a design of two factors and a covariate."""
    rng = np.random.default_rng(0)
    batch, line, age = rng.integers(0, 2, N_CELLS), rng.integers(0, 3, N_CELLS), rng.normal(size=N_CELLS)
    design = np.column_stack([np.ones(N_CELLS), age, batch, line == 1, line == 2]).astype(float)
    beta = rng.normal([2, 0, 0, 0, 0], [1.0, 0.2, 0.4, 0.6, 0.6], (N_GENES, 5))
    size = rng.lognormal(0, 0.4, N_CELLS)
    mu = size * np.exp(beta @ design.T)
    dispersion = np.geomspace(0.02, 3, N_GENES)[:, None]
    y = rng.negative_binomial(1 / dispersion, 1 / (1 + dispersion * mu)).astype(float)
    frame = {
        "age": age,
        "batch": Codes(batch.astype(np.int32), ("a", "b")),
        "line": Codes(line.astype(np.int32), ("x", "y", "z")),
    }
    return y, design, size, dispersion[:, 0], frame


@pytest.fixture(scope="module")
def fitted(data):
    y, *_, frame = data
    operator = NBGLM(design="~ age + batch + line", contrast=("line", "z", "y"), size_factors="poscounts")
    operator.fit(counts=RowBlocks(sparse.csr_matrix(y.T), dtype=np.float64), frame=frame)
    return operator


@pytest.mark.parametrize("size", [1e-3, 0.3, 1, 7, 1e3, 1e8])
def test_the_rising_factorial_keeps_its_digits(size):
    y = np.array([0.0, 1, 2, 5, 40, 3000])
    exact = np.array([np.log1p(np.arange(int(k)) / size).sum() for k in y])
    with jax.enable_x64(True):
        ours = log_rising(jnp.asarray(y), jnp.asarray(size))
    # relative to sums of up to thousands of logarithms, and absolute where they are next to nothing
    np.testing.assert_allclose(ours, exact, rtol=2e-13, atol=3e-12)


def test_slopes_are_the_derivatives(data):
    y, design, size, dispersion, _ = data
    with jax.enable_x64(True):
        mu = fit_coefficients(y, design, size, dispersion, FLOOR).mu
        x, step = jnp.log(dispersion), 1e-5

        def plain(x):
            return dispersion_likelihood(y, mu, jnp.exp(x)[:, None]).sum(axis=1)

        def adjusted(x):
            return adjusted_likelihood(x, y, mu, design)

        slopes = dispersion_slope(y, mu, jnp.exp(x)[:, None]).sum(axis=1), adjusted_slope(x, y, mu, design)
        for slope, height in zip(slopes, (jax.jit(plain), jax.jit(adjusted)), strict=True):
            numeric = (height(x + step) - height(x - step)) / (2 * step)
            np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-6)


def test_the_likelihood_is_scipys(data):
    y, design, size, dispersion, _ = data
    with jax.enable_x64(True):
        mu = np.asarray(fit_coefficients(y, design, size, dispersion, FLOOR).mu)
        ours = [np.asarray(dispersion_likelihood(y, mu, d * dispersion[:, None])).sum(axis=1) for d in (1.0, 2.0)]
    theirs = []
    for d in (1.0, 2.0):
        n = 1 / (d * dispersion[:, None])
        theirs.append(stats.nbinom.logpmf(y, n, n / (n + mu)).sum(axis=1))
    np.testing.assert_allclose(ours[1] - ours[0], theirs[1] - theirs[0], rtol=1e-8)


def test_coefficients_and_errors_are_statsmodels(data):
    y, design, size, dispersion, _ = data
    with jax.enable_x64(True):
        fit = jax.device_get(fit_coefficients(y, design, size, dispersion, FLOOR))
    assert fit.converged.all()
    for g in range(N_GENES):
        family = sm.families.NegativeBinomial(alpha=dispersion[g])
        theirs = sm.GLM(y[g], design, family=family, offset=np.log(size)).fit(tol=1e-14, maxiter=300)
        # both to convergence: what is left is the tolerance of either
        np.testing.assert_allclose(fit.beta[g], theirs.params, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(fit.covariance[g], theirs.cov_params(), rtol=1e-6, atol=1e-9)


def test_dispersions_are_the_maxima_scipy_finds(data):
    y, design, size, dispersion, _ = data
    with jax.enable_x64(True):
        mu = np.asarray(fit_coefficients(y, design, size, dispersion, FLOOR).mu)
        ours = np.asarray(fit_dispersion(y, mu, design, float(N_CELLS)))
    for g in range(N_GENES):

        def loss(x, g=g):
            n = np.exp(-x)
            weight = mu[g] / (1 + mu[g] / n)
            likelihood = stats.nbinom.logpmf(y[g], n, n / (n + mu[g])).sum()
            return np.linalg.slogdet(design.T @ (weight[:, None] * design))[1] / 2 - likelihood

        bounds = np.log([SMALLEST, N_CELLS])
        theirs = optimize.minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-10})
        if ours[g] > 1e-3:  # a flat top: scipy compares heights, which differ in the sixteenth digit
            np.testing.assert_allclose(ours[g], np.exp(theirs.x), rtol=2e-5)
        assert loss(np.log(ours[g])) <= theirs.fun + 1e-9


def test_no_overdispersion_ends_at_the_smallest_dispersion():
    rng = np.random.default_rng(0)
    y = rng.binomial(200, 0.5, (3, 40)).astype(float)  # less dispersed than Poisson
    design = np.ones((40, 1))
    with jax.enable_x64(True):
        mu = fit_coefficients(y, design, np.ones(40), np.full(3, 0.1), FLOOR).mu
        np.testing.assert_allclose(fit_dispersion(y, mu, design, 40.0), SMALLEST, rtol=1e-6)


def test_a_gene_absent_from_one_level_gets_half_a_count(data):
    """Firth's fit of a one-way Poisson model has a closed form: half a count more in each level."""
    _, _, size, _, _ = data
    level = np.arange(N_CELLS) % 2
    design = np.column_stack([np.ones(N_CELLS), level]).astype(float)
    rng = np.random.default_rng(1)
    y = rng.poisson(5 * size * (level == 0), (2, N_CELLS)).astype(float)
    y[1] = rng.poisson(5 * size)  # an ordinary gene beside it is not penalised
    with jax.enable_x64(True):
        fit = jax.device_get(fit_coefficients(y, design, size, np.full(2, 1e-9), FLOOR))
    rate = [(y[0, level == k].sum() + 0.5) / size[level == k].sum() for k in (0, 1)]
    np.testing.assert_allclose(fit.beta[0], [np.log(rate[0]), np.log(rate[1] / rate[0])], rtol=1e-6)
    error = np.sqrt(1 / (y[0].sum() + 0.5) + 1 / 0.5)
    np.testing.assert_allclose(np.sqrt(fit.covariance[0, 1, 1]), error, rtol=1e-6)
    plain = [y[1, level == k].sum() / size[level == k].sum() for k in (0, 1)]
    np.testing.assert_allclose(fit.beta[1], [np.log(plain[0]), np.log(plain[1] / plain[0])], rtol=1e-6)


def test_genes_where_fisher_scoring_swings_converge():
    """Patterns of eight samples with dispersions near ten, where the expected information overshoots by turns."""
    y = np.array([[2, 0, 0, 2, 0, 3, 1, 0], [3, 0, 4, 0, 0, 11, 0, 3], [0, 3, 2, 0, 1, 0, 0, 5]], dtype=float)
    pair = np.repeat(np.arange(4), 2)
    design = np.column_stack([np.ones(8), pair == 1, pair == 2, pair == 3, np.arange(8) % 2]).astype(float)
    dispersion = np.array([7.5, 10.0, 8.4])
    with jax.enable_x64(True):
        fit = jax.device_get(fit_coefficients(y, design, np.ones(8), dispersion, FLOOR))
    assert fit.converged.all()
    mu = np.exp(fit.beta @ design.T)
    score = ((y - mu) / (1 + dispersion[:, None] * mu)) @ design
    np.testing.assert_allclose(score, 0, atol=1e-6)


def test_sweeping_inverts():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(4, 6, 9))
    matrices = root @ root.transpose(0, 2, 1)
    with jax.enable_x64(True):
        inverses, log_determinants = sweep(jnp.asarray(matrices))
    np.testing.assert_allclose(inverses, np.linalg.inv(matrices), rtol=1e-6, atol=1e-9)  # a ridge of 1e-8
    np.testing.assert_allclose(log_determinants, np.linalg.slogdet(matrices)[1], rtol=1e-7)


def test_the_table_follows_from_the_parts(data, fitted):
    y, design, *_ = data
    size = fitted(counts=y.T)["size_factors"]
    np.testing.assert_allclose(fitted.base_mean, (y / size).mean(axis=1), rtol=1e-12)
    with jax.enable_x64(True):
        fit = jax.device_get(fit_coefficients(y, design, size, fitted.dispersion.get_value(), FLOOR))
    weights = np.array([0, 0, 0, -1, 1])  # z against y
    change = fit.beta @ weights
    error = np.sqrt([weights @ c @ weights for c in fit.covariance])
    np.testing.assert_allclose(fitted.log2_fold_change, change / np.log(2), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(fitted.lfc_se, error / np.log(2), rtol=1e-7)
    diagonal = np.sqrt([c[3, 3] + c[4, 4] for c in fit.covariance])
    assert (error < 0.95 * diagonal).all()  # the covariance of the two levels counts
    np.testing.assert_allclose(fitted.pvalue, 2 * stats.norm.sf(np.abs(change / error)), rtol=1e-6)
    np.testing.assert_allclose(fitted.padj, stats.false_discovery_control(fitted.pvalue), rtol=1e-12)


def test_blocks_of_genes_change_nothing(data, fitted, monkeypatch):
    y, *_, frame = data
    monkeypatch.setattr(nb_glm, "BLOCK_VALUES", N_CELLS * 8)  # 14 genes in two blocks of seven
    again = NBGLM(**{k: tuple(v) if isinstance(v, list) else v for k, v in fitted.config.items()})
    again.fit(counts=RowBlocks(y.T, dtype=np.float64), frame=frame)
    np.testing.assert_allclose(again.coefficients.get_value(), fitted.coefficients.get_value(), rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(again.pvalue, fitted.pvalue, rtol=1e-5)


def test_a_gene_without_counts_has_a_mean_of_zero_and_nothing_else(data):
    y, *_, frame = data
    y = np.insert(y, 3, 0, axis=0)
    operator = NBGLM(design="~ age + batch + line", size_factors="poscounts")
    operator.fit(counts=RowBlocks(y.T, dtype=np.float64), frame=frame)
    assert operator.base_mean[3] == 0
    for column in ("log2_fold_change", "lfc_se", "stat", "pvalue", "padj"):
        values = getattr(operator, column)
        assert np.isnan(values[3])
        assert np.isfinite(np.delete(values, 3)).all()
    others = np.delete(operator.pvalue, 3)
    np.testing.assert_allclose(np.delete(operator.padj, 3), stats.false_discovery_control(others), rtol=1e-12)


def test_the_null_is_calibrated():
    """Sixty samples a side: normal theory should be nearly right, dispersions estimated."""
    rng = np.random.default_rng(0)
    n_genes, n = 1500, 120
    mu = rng.gamma(2, 10, (n_genes, 1)) * rng.lognormal(0, 0.3, n)
    y = rng.negative_binomial(1 / 0.4, 1 / (1 + 0.4 * mu)).T.astype(float)
    operator = NBGLM(design="~ side", size_factors="ratio")
    operator.fit(
        counts=RowBlocks(y, dtype=np.float64), frame={"side": Codes(np.arange(n, dtype=np.int32) % 2, ("a", "b"))}
    )
    share = (operator.pvalue < 0.05).mean()
    assert 0.035 < share < 0.07  # 0.05 with a standard error of 0.0056, and the Wald test's own excess
    assert stats.kstest(operator.pvalue, "uniform").statistic < 0.05


# --- size factors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix, sparse.csc_matrix])
@pytest.mark.parametrize("kind", ["ratio", "poscounts"])
def test_size_factors_by_the_definition(data, kind, wrap):
    y = data[0].T + (np.arange(N_GENES) % 3 == 0)  # some genes have no zero
    logs = np.log(np.where(y > 0, y, np.nan))
    if kind == "ratio":
        reference = np.where((y > 0).all(axis=0), logs.mean(axis=0), np.nan)
    else:
        reference = np.nansum(logs, axis=0) / N_CELLS
    expected = np.exp(np.nanmedian(logs - reference, axis=1))
    if kind == "poscounts":
        expected /= np.exp(np.log(expected).mean())
    references = log_references(RowBlocks(wrap(y), dtype=np.float64), kind)
    np.testing.assert_allclose(median_of_ratios(y, references), expected, rtol=1e-13)
    with jax.enable_x64(True):
        np.testing.assert_allclose(median_of_ratios(jnp.asarray(y), references), expected, rtol=1e-13)


def test_new_samples_are_scaled_to_the_same_references(data, fitted):
    y = data[0].T
    whole = fitted(counts=y)["size_factors"]
    np.testing.assert_array_equal(fitted(counts=y[:5])["size_factors"], whole[:5])
    np.testing.assert_allclose(fitted(counts=3 * y[:1])["size_factors"], 3 * whole[:1], rtol=1e-12)


def test_size_factors_may_be_given(data):
    y, _, size, _, frame = data
    operator = NBGLM(design="~ age + batch + line", size_factors="mine")
    frame = {**frame, "mine": size}
    operator.fit(counts=RowBlocks(y.T, dtype=np.float64), frame=frame)
    np.testing.assert_array_equal(operator(counts=y.T, frame=frame)["size_factors"], size)
    np.testing.assert_allclose(operator.base_mean, (y / size).mean(axis=1), rtol=1e-12)
    for wrong, words in ((-size, "positive"), (frame["line"], "positive"), (None, "neither")):
        columns = {k: v for k, v in {**frame, "mine": wrong}.items() if v is not None}
        with pytest.raises(ValueError, match=words):
            operator.fit(counts=RowBlocks(y.T, dtype=np.float64), frame=columns)


def test_a_zero_in_every_gene_asks_for_poscounts():
    y = np.ones((12, 5)) - np.eye(12)[:, :5]
    with pytest.raises(ValueError, match='size_factors="poscounts"'):
        log_references(RowBlocks(y), "ratio")
    y[2] = 0
    with pytest.raises(ValueError, match="no counts at all.*number 2"):
        log_references(RowBlocks(y), "poscounts")


# --- R ---------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deseq2():
    with np.load(Path(__file__).parents[1] / "reference" / "deseq2_simulated.npz") as stored:
        return dict(stored)


@pytest.fixture(scope="module")
def beside_deseq2(deseq2):
    frame = {
        "batch": Codes(deseq2["batch"], ("b1", "b2")),
        "age": deseq2["age"],
        "condition": Codes(deseq2["condition"], ("A", "B")),
    }
    operator = NBGLM(design="~ batch + age + condition", min_mean=0.5)  # DESeq2's floor of fitted means
    operator.fit(counts=RowBlocks(deseq2["counts"], dtype=np.float64), frame=frame)
    return operator


def test_size_factors_are_rs(deseq2, beside_deseq2):
    ours = beside_deseq2(counts=deseq2["counts"])["size_factors"]
    np.testing.assert_allclose(ours, deseq2["size_factors"], rtol=1e-12)
    np.testing.assert_allclose(beside_deseq2.base_mean[deseq2["genes"]], deseq2["base_mean"], rtol=1e-8)  # nine digits


def test_gene_wise_dispersions_are_rs_where_its_search_goes_on(deseq2, beside_deseq2):
    """R's search does not move where it starts at the smallest dispersion; else it ends within 1e-6 of the height."""
    ours = beside_deseq2.dispersion.get_value()[deseq2["genes"]]
    moved = deseq2["dispersion_genewise"] > 1e-6
    assert moved.mean() > 0.8
    apart = np.abs(ours / deseq2["dispersion_genewise"] - 1)[moved]
    assert np.median(apart) < 2e-4
    assert np.quantile(apart, 0.95) < 5e-3


def test_coefficients_and_errors_are_rs_at_its_dispersions(deseq2):
    design = np.column_stack([np.ones(12), deseq2["batch"], deseq2["age"], deseq2["condition"]])
    y = deseq2["counts"][:, deseq2["genes"]].T.astype(float)
    with jax.enable_x64(True):
        fit = jax.device_get(fit_coefficients(y, design, deseq2["size_factors"], deseq2["dispersion"], 0.5))
    beta = fit.beta / np.log(2)
    error = np.sqrt(np.diagonal(fit.covariance, axis1=1, axis2=2)) / np.log(2)
    apart = np.abs(beta - deseq2["beta"]).max(axis=1)
    # R stops when the deviance changes by less than 1e-8 of itself, a few 1e-5 short of the maximum
    assert np.median(apart) < 1e-4
    assert np.quantile(apart, 0.95) < 5e-4
    np.testing.assert_allclose(np.median(np.abs(error / deseq2["se"] - 1)), 0, atol=1e-5)


def test_special_functions_agree():
    with jax.enable_x64(True):
        ours = np.asarray(log_rising(jnp.asarray([3.0, 11.0]), jnp.asarray(2.5)))
    y = np.array([3.0, 11.0])
    np.testing.assert_allclose(ours, special.gammaln(y + 2.5) - special.gammaln(2.5) - y * np.log(2.5), rtol=1e-12)
