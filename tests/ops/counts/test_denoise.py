import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import sparse, special, stats

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.counts.denoise import Denoise, default_epochs, gene_embedding, objective, rise_and_fall, thinned
from dbx.ops.state import rebuild, state_arrays

SMALL = {"n_units": 32, "n_latents": 4, "max_epochs": 25, "batch_size": 64}


@pytest.fixture(scope="module")
def data():
    """Poisson counts around smooth proportions of low rank; the same mean is drawn from twice."""
    rng = np.random.default_rng(0)
    place = rng.normal(size=(500, 2))
    log_mean = rng.normal(0, 1, 120) + place @ rng.normal(0, 0.6, (2, 120))
    share = np.exp(log_mean) / np.exp(log_mean).sum(axis=1, keepdims=True)
    mean = share * rng.lognormal(np.log(300), 0.4, (500, 1))
    return {"counts": rng.poisson(mean).astype(np.float32), "again": rng.poisson(mean), "mean": mean, "share": share}


@pytest.fixture(scope="module")
def fitted(data):
    operator = Denoise(**SMALL)
    operator.fit(x=RowBlocks(sparse.csr_matrix(data["counts"])))
    return operator


def denoised(operator, counts):
    return apply(operator, {"x": RowBlocks(counts)}, len(counts))["denoised"]


def nll(mean, counts):
    return -stats.poisson.logpmf(counts, np.maximum(mean, 1e-8)).sum(axis=1).mean()


def low_rank(counts, rank=2):
    """Singular vectors of the log proportions of counts plus their expectation."""
    total, frequency = counts.sum(axis=1, keepdims=True), counts.sum(axis=0) / counts.sum()
    log = np.log((counts + 10 * frequency) / (total + 10))
    u, s, v = np.linalg.svd(log - log.mean(axis=0), full_matrices=False)
    return total * special.softmax(log.mean(axis=0) + (u[:, :rank] * s[:rank]) @ v[:rank], axis=1)


def test_predicts_a_second_draw_better_than_gene_means_and_low_rank(data, fitted):
    counts, again = data["counts"].astype(np.float64), data["again"]
    total = counts.sum(axis=1, keepdims=True)
    ours = nll(denoised(fitted, data["counts"]), again)
    assert ours < nll(total * counts.sum(axis=0) / counts.sum(), again) - 20
    assert ours < nll(low_rank(counts), again)
    # the truth's proportions at the same totals: what is left is estimation in 500 cells
    assert ours < nll(total * data["share"], again) + 6


def test_all_genes_of_a_cell_are_denoised_and_keep_its_total(data, fitted):
    found = denoised(fitted, data["counts"])
    np.testing.assert_allclose(found.sum(axis=1), data["counts"].sum(axis=1), rtol=1e-4)
    truth = np.log(data["mean"])
    zero, raw = data["counts"] == 0, np.log(data["counts"] + 0.5)
    for cells in (zero, ~zero):  # what was counted is replaced, too
        assert np.corrcoef(np.log(found)[cells], truth[cells])[0, 1] > 0.9
    error, error_raw = (np.abs(x - truth)[~zero].mean() for x in (np.log(found), raw))
    assert error < 0.7 * error_raw


def test_new_cells_are_denoised_as_well(data):
    operator = Denoise(**SMALL)
    operator.fit(x=RowBlocks(data["counts"][:400]))
    x, again = data["counts"][400:], data["again"][400:]
    total = x.sum(axis=1, keepdims=True)
    by_genes = nll(total * data["counts"][:400].sum(axis=0) / data["counts"][:400].sum(), again)
    assert nll(denoised(operator, x), again) < by_genes - 15


def test_target_sum_is_the_only_difference(data, fitted):
    other = rebuild(Denoise, {**fitted.config, "target_sum": 1e4}, state_arrays(fitted))
    one, two = denoised(fitted, data["counts"][:20]), denoised(other, data["counts"][:20])
    np.testing.assert_allclose(two, one / one.sum(axis=1, keepdims=True) * 1e4, rtol=1e-4)


def test_order_of_the_genes_does_not_matter(data, fitted):
    """Genes and everything learnt of them in another order: the same cells."""
    order = np.random.default_rng(0).permutation(120)
    arrays = dict(state_arrays(fitted))
    for name, along in (("encoder.genes.embedding", 0), ("decoder.kernel", 1), ("decoder.bias", 0)):
        kind, array = arrays[f"network.{name}"]
        arrays[f"network.{name}"] = (kind, np.take(array, order, axis=along))
    again = rebuild(Denoise, fitted.config, arrays)
    x = data["counts"][:30]
    np.testing.assert_allclose(denoised(again, x[:, order]), denoised(fitted, x)[:, order], rtol=1e-3)


def test_attention_is_a_softmax_over_the_genes_that_were_counted(data, fitted):
    genes, x = fitted.network.encoder.genes, data["counts"][:3].astype(np.float64)
    a = {name: np.float64(v) for name, (_, v) in state_arrays(fitted).items() if "encoder.genes" in name}
    a = {name.removeprefix("network.encoder.genes."): v for name, v in a.items()}
    key, value = a["embedding"] @ a["key.kernel"], (a["embedding"] @ a["value.kernel"]).reshape(120, 4, -1)
    for cell in range(3):
        seen = np.flatnonzero(x[cell])
        for latent in range(4):
            logits = key[seen] @ a["query"][latent] / np.sqrt(32) + np.log(np.log1p(x[cell, seen]))
            looked = special.softmax(logits) @ value[seen, latent]
            given = np.append(looked, np.log1p(x[cell].sum()) / 10)
            expected = a["start"][latent] + given @ a["out.kernel"] + a["out.bias"]
            found = genes(jnp.asarray(x[cell : cell + 1], jnp.float32))[0, latent]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def test_thinning_is_binomial():
    x = jnp.asarray(np.tile([0, 1, 3, 20, 31, 32, 33, 400], (20_000, 1)), jnp.float32)
    shown = np.asarray(jax.jit(thinned)(x, jax.random.key(0)))
    rate = np.where(shown[:, -1] > 250, 0.75, 0.5)  # 250 of 400 lies five standard deviations from both
    assert abs((rate == 0.75).mean() - 0.5) < 0.02
    for p in (0.5, 0.75):
        some = shown[rate == p]
        for column, n in enumerate(np.asarray(x[0], int)):
            assert some[:, column].mean() == pytest.approx(n * p, abs=4 * np.sqrt(n * p * (1 - p) / 9_000) + 1e-9)
            assert some[:, column].var() == pytest.approx(n * p * (1 - p), rel=0.08)
            assert some[:, column].max(initial=0) <= n
        observed = np.bincount(some[:, 2].astype(int), minlength=4) / len(some)
        np.testing.assert_allclose(observed, stats.binom.pmf(range(4), 3, p), atol=0.02)


def test_objective_never_scores_what_was_shown(data, fitted):
    x, key = jnp.asarray(data["counts"][:10]), jax.random.key(3)
    losses, _ = objective(fitted.network, {"x": x}, key)
    shown = thinned(x, key)
    expected = -((x - shown) * fitted.network(shown)).sum(axis=1)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    np.testing.assert_array_equal(*(objective(fitted.network, {"x": x}, None)[0] for _ in range(2)))


def test_training_stops_by_the_cells_kept_apart_and_restores_the_best(data):
    operator = Denoise(**{**SMALL, "max_epochs": 60, "patience": 2, "learning_rate": 0.02})
    operator.fit(x=RowBlocks(data["counts"]))
    validation = operator.history["validation_loss"]
    assert len(validation) < 60
    assert len(validation) - 1 - validation.argmin() == 2


def test_loss_is_the_poisson_likelihood(data, fitted):
    x = data["counts"][:40]
    found = fitted.loss({"x": jnp.asarray(x)}, fitted(jnp.asarray(x)))
    assert float(found.mean()) == pytest.approx(nll(denoised(fitted, x).astype(np.float64), x), rel=1e-4)


def test_configuration_arrays_and_seeds(data, fitted):
    again = rebuild(Denoise, fitted.config, state_arrays(fitted))
    np.testing.assert_array_equal(denoised(fitted, data["counts"]), denoised(again, data["counts"]))
    assert fitted.config["n_genes"] == 120
    same, other = Denoise(**SMALL), Denoise(**SMALL)
    same.fit(x=RowBlocks(data["counts"]))
    other.fit(x=RowBlocks(data["counts"]), seed=1)
    np.testing.assert_array_equal(denoised(fitted, data["counts"]), denoised(same, data["counts"]))
    assert np.abs(denoised(fitted, data["counts"]) - denoised(other, data["counts"])).max() > 0.01


def test_embedding_starts_at_the_principal_axes(data):
    embedding = gene_embedding(RowBlocks(data["counts"]), 40, np.random.default_rng(0))
    np.testing.assert_allclose(embedding[:, :30].T @ embedding[:, :30] / 120, np.eye(30), atol=1e-5)
    assert embedding[:, 30:].std() == pytest.approx(0.3, rel=0.1)


def test_schedules():
    assert [default_epochs(n) for n in (100, 5000, 10_000, 20_000, 10**7)] == [30, 30, 30, 16, 10]
    factor = rise_and_fall(np.array([0.0, 2.0, 30.0, 59.9]), 60)
    np.testing.assert_allclose(factor, [0.02, 0.998, 0.501, 0.001], atol=1e-3)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"n_units": 30}, "n_units=30 must be a multiple of 4"),
        ({"n_units": 0}, "n_units must be at least 4; got 0"),
        ({"n_latents": 0}, "n_latents must be at least 1; got 0"),
        ({"patience": 0}, "patience must be at least 1; got 0"),
        ({"max_epochs": 0}, "max_epochs must be at least 1; got 0"),
        ({"target_sum": -1.0}, "target_sum must be above 0; got -1.0"),
        ({"validation": 0.0}, "validation must be a fraction above 0 and below 1; got 0.0"),
    ],
)
def test_wrong_settings_are_told_in_words(config, words):
    with pytest.raises(ValueError, match=words):
        Denoise(**config)


def test_cells_without_counts_are_refused(data):
    counts = data["counts"].copy()
    counts[3] = 0
    with pytest.raises(ValueError, match=r"1 cells have no counts in these genes \(the first is row 3\)"):
        Denoise().fit(x=RowBlocks(counts))
