import jax
import numpy as np
import pytest
from scipy import sparse, stats

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.droplets.ambient import RemoveAmbient
from dbx.ops.droplets.ambient_mixture import rounded_rows
from dbx.ops.droplets.ambient_rate import shared_rate
from dbx.ops.state import rebuild, state_arrays
from dbx.ops.values import Codes

N_CELLS, N_GENES, LEVELS = 300, 400, ("0", "1", "2")


def simulated(mean_rate, seed=0):
    """Three groups of which each lacks 60 genes of its own, and ambient counts added; the truth is known."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 3, N_CELLS)
    level = np.tile(rng.lognormal(0, 1, N_GENES), (3, 1))
    level *= rng.lognormal(0, 0.3, level.shape)
    for g in range(3):
        level[g, 60 * g : 60 * (g + 1)] = 0
    share = level / level.sum(axis=1, keepdims=True)
    total = rng.lognormal(np.log(1500), 0.4, N_CELLS)
    native = rng.poisson(share[group] * total[:, None])
    profile = native.sum(axis=0) / native.sum()
    rate = np.zeros(N_CELLS) if mean_rate == 0 else rng.beta(20 * mean_rate, 20 * (1 - mean_rate), N_CELLS)
    ambient = rng.poisson((native.sum(axis=1) * rate / (1 - rate))[:, None] * profile)
    counts = (native + ambient).astype(np.float32)
    return {
        "counts": sparse.csr_matrix(counts),
        "native": native,
        "rate": ambient.sum(axis=1) / counts.sum(axis=1),
        "group": Codes(group.astype(np.int32), LEVELS),
        "profile": profile,
    }


@pytest.fixture(scope="module")
def data():
    return simulated(0.15)


def fitted(data, *, known=False, **config):
    operator = RemoveAmbient(**config)
    given = {"x": RowBlocks(data["counts"])} | ({"cluster": data["group"]} if known else {})
    operator.fit(**given)
    return operator, apply(operator, given, N_CELLS)


@pytest.fixture(scope="module")
def cleaned(data):
    return fitted(data)


def rmse(x, truth):
    return np.sqrt(np.mean((np.asarray(x) - truth) ** 2))


@pytest.mark.parametrize("known", [True, False])
def test_finds_the_rate_and_the_counts(data, known):
    # more groups than there are divide cells by their contamination, too, which lowers the common rate
    operator, found = fitted(data, known=known, n_clusters=3)
    assert float(operator.mean_rate[...]) == pytest.approx(data["rate"].mean(), abs=0.015)
    assert found["fraction"].mean() == pytest.approx(data["rate"].mean(), abs=0.015)
    assert np.corrcoef(found["fraction"], data["rate"])[0, 1] > 0.8
    observed = data["counts"].toarray()
    by_oracle = rmse(observed * (1 - data["rate"].mean()), data["native"])
    # knowing genes and cells apart, it leaves less than taking the true mean off every count
    assert rmse(found["x"].toarray(), data["native"]) < 0.9 * by_oracle
    assert rmse(found["x"].toarray(), data["native"]) < 0.7 * rmse(observed, data["native"])


def test_clean_data_stay_clean():
    clean = simulated(0)
    _, found = fitted(clean)
    assert found["x"].sum() > 0.98 * clean["counts"].sum()
    assert found["fraction"].max() < 0.05


def test_without_a_lacking_gene_nothing_is_removed():
    """Ratios of expression that no pile-up at the low end tells from contamination are taken as expression."""
    rng = np.random.default_rng(0)
    level = rng.lognormal(0, 1, N_GENES) * rng.lognormal(0, 0.4, (3, N_GENES))
    group = rng.integers(0, 3, N_CELLS)
    counts = rng.poisson(1500 * level[group] / level.sum(axis=1)[group, None]).astype(np.float32)
    _, found = fitted({"counts": sparse.csr_matrix(counts)})
    assert found["x"].sum() > 0.98 * counts.sum()


def test_never_below_zero_nor_above_what_was_observed(data, cleaned):
    found, observed = cleaned[1]["x"], data["counts"]
    assert found.data.min() >= 0
    assert (observed - found).min() >= -1e-5


def test_shared_rate_of_poisson_counts():
    rng = np.random.default_rng(0)
    ambient = rng.dirichlet(np.ones(200))
    native = rng.dirichlet(np.full(200, 0.2), size=8)
    native[:, :40] *= rng.random((8, 40)) < 0.4
    native /= native.sum(axis=1, keepdims=True)
    for rate in (0.05, 0.2):
        mean = 20_000 * ((1 - rate) * native + rate * ambient)
        assert shared_rate(rng.poisson(mean).astype(float), ambient) == pytest.approx(rate, abs=0.015)


def test_posterior_by_hand(data, cleaned):
    """Each count times the share of its Poisson mean that is native."""
    operator, found = cleaned
    native, profile = np.asarray(operator.native[...], np.float64), np.asarray(operator.profile[...], np.float64)
    counts, rho = data["counts"].toarray().astype(np.float64), found["fraction"].astype(np.float64)
    rate = float(operator.mean_rate[...])
    mixed = (1 - rate) * native + rate * profile
    log_likelihood = np.stack([stats.multinomial.logpmf(counts, counts.sum(axis=1), p / p.sum()) for p in mixed])
    label = log_likelihood.argmax(axis=0)
    own, other = (1 - rho)[:, None] * native[label], rho[:, None] * profile
    np.testing.assert_allclose(found["x"].toarray(), counts * own / (own + other + 1e-12), rtol=2e-3, atol=1e-4)
    # the cell's share is where expectation-maximisation stands still
    hardly, lift = np.asarray(operator.hardly[...])[label], float(operator.lift[...])
    liquid = lift * (counts * hardly * other / (own + other + 1e-12)).sum(axis=1)
    expected, scale = counts.sum(axis=1) * (hardly * profile).sum(axis=1), 51 / (1 - rate)
    np.testing.assert_allclose(rho, (liquid + rate * scale) / (expected + scale), rtol=1e-3)


def test_a_given_rate_is_taken(data):
    operator, found = fitted(data, rate=0.3, concentration=1e6)
    assert float(operator.mean_rate[...]) == pytest.approx(0.3)
    np.testing.assert_allclose(found["fraction"], 0.3, rtol=1e-2)


def test_profile_of_droplets_is_kept(data):
    operator = RemoveAmbient(from_droplets=True, n_clusters=3)
    with pytest.raises(ValueError, match="empty droplets is not available"):
        operator.fit(x=RowBlocks(data["counts"]))
    operator.given_profile(1e6 * data["profile"]).fit(x=RowBlocks(data["counts"]))
    np.testing.assert_allclose(operator.profile[...], data["profile"], rtol=1e-5)
    assert float(operator.mean_rate[...]) == pytest.approx(data["rate"].mean(), abs=0.015)


def test_whole_numbers_keep_totals(data, cleaned):
    _, found = fitted(data, integers=True)
    exact = cleaned[1]["x"]
    np.testing.assert_array_equal(found["x"].data, np.rint(found["x"].data))
    difference = np.asarray(found["x"].sum(axis=1) - exact.sum(axis=1)).ravel()
    assert np.abs(difference).max() <= 0.51
    assert np.abs((found["x"] - exact).toarray()).max() < 1
    assert (data["counts"] - found["x"]).min() >= 0
    x = np.array([[0.5, 0.5, 0.2, 1.8], [0, 2.2, 0.1, 0.1]], np.float32)
    by_hand = [[1, 0, 0, 2], [0, 2, 0, 0]]
    np.testing.assert_array_equal(rounded_rows(x), by_hand)
    np.testing.assert_array_equal(rounded_rows(sparse.csr_matrix(x)).toarray(), by_hand)


def test_sparse_and_dense_agree_and_blocks_change_nothing(data, cleaned, monkeypatch):
    operator, found = cleaned
    dense = jax.jit(lambda x: operator(x))(data["counts"].toarray())
    np.testing.assert_allclose(dense["x"], found["x"].toarray(), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(dense["fraction"], found["fraction"], rtol=1e-3, atol=1e-5)
    monkeypatch.setattr("dbx.ops.droplets.ambient.CSR_ROWS", 64)
    blocks = operator(data["counts"])
    np.testing.assert_array_equal(blocks["x"].toarray(), found["x"].toarray())
    np.testing.assert_array_equal(blocks["fraction"], found["fraction"])


def test_a_cell_of_no_known_cluster_is_of_the_likeliest(data):
    operator, found = fitted(data, known=True)
    unknown = operator(data["counts"], Codes(np.full(N_CELLS, -1), LEVELS))
    np.testing.assert_allclose(unknown["fraction"], found["fraction"], rtol=1e-5)
    wrong = operator(data["counts"], Codes((data["group"].codes + 1) % 3, LEVELS))
    assert wrong["fraction"].mean() > 2 * found["fraction"].mean()


def test_empty_cells_stay_empty(data, cleaned):
    counts = data["counts"][:5].copy()
    counts.data[: counts.indptr[1]] = 0
    counts.eliminate_zeros()
    found = cleaned[0](counts)
    assert found["x"][0].nnz == 0
    assert found["fraction"][0] == pytest.approx(float(cleaned[0].mean_rate[...]))


def test_configuration_and_arrays_build_it_again(data, cleaned):
    again = rebuild(RemoveAmbient, cleaned[0].config, state_arrays(cleaned[0]))
    for name, value in cleaned[0](data["counts"]).items():
        other = again(data["counts"])[name]
        np.testing.assert_array_equal(*(v.toarray() if sparse.issparse(v) else v for v in (value, other)))


def test_wrong_settings_are_told_in_words():
    with pytest.raises(ValueError, match="rate must be a fraction of the counts.*got 1.2"):
        RemoveAmbient(rate=1.2)
    with pytest.raises(ValueError, match="concentration=0 must be above 0"):
        RemoveAmbient(concentration=0)
    with pytest.raises(ValueError, match="All counts are zero"):
        RemoveAmbient().fit(x=RowBlocks(np.zeros((4, 3))))


def test_a_fitted_cell_without_a_cluster_is_of_the_likeliest(data):
    """Groups differ by whole genes: cells whose group is withheld are put there, and results hardly change."""
    codes = np.asarray(data["group"].codes).copy()
    withheld = np.arange(0, N_CELLS, 10)
    codes[withheld] = -1
    _, known = fitted(data, known=True)
    _, some = fitted({**data, "group": Codes(codes, LEVELS)}, known=True)
    np.testing.assert_allclose(some["fraction"][withheld], known["fraction"][withheld], atol=0.02)
    assert rmse(some["x"].toarray(), known["x"].toarray()) < 0.05 * rmse(data["counts"].toarray(), data["native"])
