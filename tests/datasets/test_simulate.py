"""Simulated counts have the moments of the truth that is handed out with them."""

import tracemalloc
from unittest import mock

import anndata as ad
import numpy as np
import pytest
from scipy import stats

from dbx.datasets import simulate

N_CELLS, N_GENES = 3000, 400


LIKE_SPLATTER = {"outlier_probability": 0.05, "library_size": 2000, "library_scale": 0.2, "dispersion": 0.01}
LIKE_SPLATTER |= {"dispersion_df": 60, "bcv_trend": 1, "de_probability": 0.1, "de_location": 0.1, "nested": 2}


@pytest.fixture(scope="module")
def adata():
    return simulate(N_CELLS, N_GENES, 3, 2, seed=1)


@pytest.fixture(scope="module", params=[{}, LIKE_SPLATTER], ids=["defaults", "like_splatter"])
def either(request):
    return simulate(N_CELLS, N_GENES, 3, 2, seed=1, **request.param)


def expected(adata) -> np.ndarray:
    """Expected counts, computed again from what the AnnData tells."""
    factor = np.column_stack([adata.var[f"factor_{name}"] for name in adata.obs["group"].cat.categories])
    batch_factor = np.column_stack([adata.var[f"factor_{name}"] for name in adata.obs["batch"].cat.categories])
    relative = adata.var["mean"].to_numpy()[:, None] * factor[:, adata.obs["group"].cat.codes]
    relative = (relative * batch_factor[:, adata.obs["batch"].cat.codes]).T
    return adata.obs["library_size"].to_numpy()[:, None] * relative / relative.sum(axis=1, keepdims=True)


def size_and_mean(adata) -> tuple[np.ndarray, np.ndarray]:
    """Parameters of the negative binomial: its size is the coefficient of variation, squared and inverted."""
    mean = expected(adata)
    coefficient = np.sqrt(adata.var["dispersion"].to_numpy()) + adata.var["bcv_trend"].to_numpy() / np.sqrt(mean)
    return 1 / coefficient**2, mean


def assert_centred(deviations: np.ndarray):
    """Independent deviations whose expectation is zero: their mean within 5 of its own standard errors."""
    error = deviations.std(ddof=1) / np.sqrt(deviations.size)
    assert abs(deviations.mean()) < 5 * error


def test_counts_are_counts(adata):
    x = adata.X
    assert x.format == "csr"
    assert x.dtype == np.float32
    assert x.has_canonical_format
    assert (x.data >= 1).all()
    assert (x.data % 1 == 0).all()
    assert 0.07 < x.nnz / (N_CELLS * N_GENES) < 0.14


@pytest.mark.parametrize("by", [["group"], ["batch"], ["group", "batch"]])
def test_means(either, by):
    """Sums over the cells of a group, of a batch: standardised, they have mean 0 and variance 1 over genes."""
    size, mean = size_and_mean(either)
    variance = mean + mean**2 / size
    excess = either.X.toarray() - mean
    for cells in either.obs.groupby(by, observed=True).indices.values():
        z = excess[cells].sum(axis=0) / np.sqrt(variance[cells].sum(axis=0))
        assert_centred(z)
        assert_centred(z**2 - 1)


def test_library_sizes(either):
    """A cell's total is Poisson-like around its expectation with the genes' dispersion added."""
    size, mean = size_and_mean(either)
    np.testing.assert_allclose(mean.sum(axis=1), either.obs["library_size"], rtol=1e-12)
    variance = (mean + mean**2 / size).sum(axis=1)
    z = (either.X.sum(axis=1).A1 - either.obs["library_size"]) / np.sqrt(variance)
    assert_centred(z.to_numpy())
    assert_centred(z.to_numpy() ** 2 - 1)


def test_variance_over_mean(either):
    """Squared deviations are mean + dispersion x mean^2, gene by gene and entry by entry."""
    size, mean = size_and_mean(either)
    beyond_poisson = (either.X.toarray() - mean) ** 2 - mean
    told = mean**2 / size
    assert_centred((beyond_poisson - told).ravel())
    # and not merely lost in the noise: the dispersion that fits best is that of the truth within 10%
    weight = 1 / (mean + told) ** 2
    fitted = (weight * beyond_poisson * told).sum() / (weight * told**2).sum()
    assert fitted == pytest.approx(1, abs=0.1)


def test_zeros(either):
    """The zero fraction is that of the negative binomial."""
    size, mean = size_and_mean(either)
    zero = stats.nbinom.pmf(0, size, size / (size + mean))
    assert_centred(((either.X.toarray() == 0) - zero).ravel())


def test_without_dispersion_counts_are_poisson():
    """At one fixed mean, scipy's Poisson probabilities: chi-squared test over the frequent counts."""
    adata = simulate(20_000, 2, 1, 1, dispersion=0, library_scale=0, library_size=6)
    np.testing.assert_array_equal(adata.var["dispersion"], 0)
    rate = expected(adata)[0, 0]
    counts = np.bincount(adata.X[:, 0].toarray().ravel().astype(int), minlength=30)
    told = stats.poisson.pmf(np.arange(len(counts)), rate) * adata.n_obs
    frequent = told > 20
    chi2 = ((counts - told)[frequent] ** 2 / told[frequent]).sum()
    assert stats.chi2.sf(chi2, frequent.sum()) > 1e-4


def test_truth_has_the_distributions_asked_for():
    """Kolmogorov-Smirnov tests of the drawn parameters; p > 1e-4 for a fixed seed."""
    parameters = {"mean_shape": 0.8, "mean_rate": 0.5, "library_size": 300.0, "library_scale": 0.3}
    parameters |= {"dispersion": 0.3, "dispersion_df": 15, "batch_location": 0.1, "batch_scale": 0.2}
    adata = simulate(2000, 3000, 2, 2, de_probability=0.25, de_location=0.7, de_scale=0.2, **parameters)
    var, obs = adata.var, adata.obs
    differs = var["factor_group_2"] != 1
    log_factor = np.log(var["factor_group_2"][differs])
    drawn = {
        "mean": (var["mean"], stats.gamma(0.8, scale=1 / 0.5)),
        "dispersion": (0.3 * 15 / var["dispersion"], stats.chi2(15)),
        "library": (np.log(obs["library_size"] / 300), stats.norm(0, 0.3)),
        "batch": (np.log(var["factor_batch_2"]), stats.norm(0.1, 0.2)),
        "group": (log_factor.abs(), stats.norm(0.7, 0.2)),
    }
    for name, (values, distribution) in drawn.items():
        assert stats.kstest(values, distribution.cdf).pvalue > 1e-4, name
    assert stats.binomtest(int(differs.sum()), 3000, 0.25).pvalue > 1e-4
    assert stats.binomtest(int((log_factor < 0).sum()), int(differs.sum()), 0.5).pvalue > 1e-4
    for column in ("group", "batch"):
        assert stats.chisquare(obs[column].value_counts()).pvalue > 1e-4


def test_one_batch_has_no_effect_and_infinite_df_one_dispersion():
    adata = simulate(10, 20, 1, 1, dispersion_df=np.inf)
    np.testing.assert_array_equal(adata.var["factor_batch_1"], 1)
    np.testing.assert_array_equal(adata.var["dispersion"], 0.2)


def test_same_seed_same_counts_whatever_the_threads():
    first = simulate(700, 30, 2, 2, seed=3)
    with mock.patch("os.cpu_count", return_value=1):
        again = simulate(700, 30, 2, 2, seed=3)
    other = simulate(700, 30, 2, 2, seed=4)
    np.testing.assert_array_equal(first.X.toarray(), again.X.toarray())
    assert first.obs.equals(again.obs)
    assert first.var.equals(again.var)
    assert (first.X != other.X).nnz > 0


def test_streams_of_cells_do_not_repeat():
    """Blocks of cells are independent: no block of rows is a copy of another."""
    x = simulate(1024, 50, 1, 1, library_scale=0).X.toarray()
    assert len(np.unique(x, axis=0)) > 1000


def test_memory_stays_near_the_result():
    """Joining the blocks takes the result twice; draws are bounded whatever the number of cells."""
    tracemalloc.start()
    x = simulate(20_000, 200, 2, 2).X
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    result = x.data.nbytes + x.indices.nbytes + x.indptr.nbytes
    assert peak < 2.2 * result + 20e6
    assert peak < 20_000 * 200 * 8


def test_written_and_read(adata, tmp_path):
    adata.write_h5ad(tmp_path / "simulated.h5ad")
    again = ad.read_h5ad(tmp_path / "simulated.h5ad")
    assert again.uns["simulate"] == adata.uns["simulate"]
    assert list(again.obs["group"].cat.categories) == ["group_1", "group_2", "group_3"]
    np.testing.assert_array_equal(again.X.toarray(), adata.X.toarray())


@pytest.mark.parametrize("settings", [{}, {"dropout_mid": 0.0}], ids=["without dropout", "dropout"])
def test_a_file_is_written_by_blocks_with_the_same_counts(tmp_path, monkeypatch, settings):
    monkeypatch.setattr("dbx.datasets.splat.DRAWS_AT_ONCE", 2)
    monkeypatch.setattr("dbx.datasets.on_disk.BLOCKS_AT_ONCE", 2)
    expected = simulate(1300, 20, 3, 2, seed=2, **settings)
    backed = simulate(1300, 20, 3, 2, seed=2, filename=tmp_path / "x.h5ad", **settings)
    assert backed.isbacked
    found = backed.to_memory()
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(getattr(found.X, name), getattr(expected.X, name))
        assert getattr(found.X, name).dtype == getattr(expected.X, name).dtype
    for layer in expected.layers:
        assert (found.layers[layer] != expected.layers[layer]).nnz == 0
    assert found.obs.equals(expected.obs)
    assert found.var.equals(expected.var)
    assert found.uns["simulate"].keys() == expected.uns["simulate"].keys()
