"""Objectives of counts and of autoencoders beside SciPy, NumPyro and NumPy, computed from arrays alone."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dbx.losses import ZINB, Elbo, MaskedReconstruction, NegativeBinomial, Poisson, Vae, reconstruction_loss
from dbx.losses.objectives import Cells

THETA = np.array([0.3, 2.0, 40.0, 1e4])


@pytest.fixture(autouse=True)
def _x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def counts():
    rng = np.random.default_rng(0)
    return rng.poisson(rng.gamma(0.7, 4, (9, 4))).astype(float) + np.eye(9, 4), rng.gamma(2.0, 1.5, (9, 4))


def cells(x, mean, **settings):
    return Cells(z=jnp.asarray(mean), read={"of": jnp.asarray(x)}, rows=np.arange(len(x)), **settings)


def scaled(x, mean):
    return mean / mean.sum(axis=1, keepdims=True) * x.sum(axis=1, keepdims=True)


def scipys(x, mean, theta):
    return -stats.nbinom.logpmf(x, theta, theta / (theta + mean)).sum(axis=1)


def test_poisson_is_scipys(counts):
    x, mean = counts
    expected = -stats.poisson.logpmf(x, scaled(x, mean)).sum(axis=1)
    np.testing.assert_allclose(Poisson().of_cells(cells(x, mean)), expected, rtol=1e-10)
    np.testing.assert_allclose(Poisson().of_cells(cells(x, 7 * mean)), expected, rtol=1e-10)
    unscaled = Poisson(scale_to_total=False).of_cells(cells(x, mean))
    np.testing.assert_allclose(unscaled, -stats.poisson.logpmf(x, mean).sum(axis=1), rtol=1e-10)


def test_negative_binomial_is_scipys_in_both_conventions(counts):
    x, mean = counts
    expected = scipys(x, scaled(x, mean), 2.5)
    np.testing.assert_allclose(NegativeBinomial(theta=2.5).of_cells(cells(x, mean)), expected, rtol=1e-10)
    np.testing.assert_allclose(NegativeBinomial(dispersion=0.4).of_cells(cells(x, mean)), expected, rtol=1e-10)
    by_gene = cells(x, mean, facts={"theta": THETA})
    np.testing.assert_allclose(
        NegativeBinomial(theta="theta").of_cells(by_gene), scipys(x, scaled(x, mean), THETA), rtol=1e-9
    )
    by_gene = cells(x, mean, facts={"dispersion": 1 / THETA})
    np.testing.assert_allclose(
        NegativeBinomial(dispersion="alpha").of_cells(by_gene), scipys(x, scaled(x, mean), THETA), rtol=1e-9
    )


def test_infinite_theta_is_poisson_exactly(counts):
    x, mean = counts
    exact = np.asarray(Poisson().of_cells(cells(x, mean)))
    for loss in (NegativeBinomial(theta=np.inf), NegativeBinomial(dispersion=0), NegativeBinomial(dispersion=0.0)):
        np.testing.assert_array_equal(loss.of_cells(cells(x, mean)), exact)
        slope, expected = (
            jax.grad(lambda z, loss=loss: loss.of_cells(cells(x, z)).sum())(jnp.asarray(mean))
            for loss in (loss, Poisson())
        )
        np.testing.assert_allclose(slope, expected, rtol=1e-12)
    near = [np.abs(NegativeBinomial(theta=theta).of_cells(cells(x, mean)) - exact).max() for theta in (1e4, 1e6, 1e8)]
    np.testing.assert_allclose(np.divide(near[:-1], near[1:]), 100, rtol=0.05)  # the difference falls like 1 / theta
    mixed = cells(x, mean, facts={"theta": np.where(np.arange(4) < 2, np.inf, THETA)})
    m = scaled(x, mean)
    by_hand = -stats.poisson.logpmf(x[:, :2], m[:, :2]).sum(axis=1) + scipys(x[:, 2:], m[:, 2:], THETA[2:])
    np.testing.assert_allclose(NegativeBinomial(theta="theta").of_cells(mixed), by_hand, rtol=1e-9)


def test_zinb_is_numpyros(counts):
    distributions = pytest.importorskip("numpyro.distributions")
    x, mean = counts
    of = distributions.NegativeBinomial2(scaled(x, mean), 2.5)
    expected = -distributions.ZeroInflatedDistribution(of, gate=0.2).log_prob(x).sum(axis=1)
    loss = ZINB(theta=2.5, inflation=0.2)
    np.testing.assert_allclose(loss.of_cells(cells(x, mean)), expected, rtol=1e-6)
    np.testing.assert_allclose(ZINB(dispersion=0.4, inflation=0.2).of_cells(cells(x, mean)), expected, rtol=1e-6)
    nothing = ZINB(theta=2.5, inflation=0).of_cells(cells(x, mean))
    np.testing.assert_allclose(nothing, scipys(x, scaled(x, mean), 2.5), rtol=1e-10)
    of = distributions.ZeroInflatedPoisson(gate=0.2, rate=scaled(x, mean))
    np.testing.assert_allclose(
        ZINB(theta=np.inf, inflation=0.2).of_cells(cells(x, mean)), -of.log_prob(x).sum(axis=1), rtol=1e-9
    )


def test_a_mean_of_zero_and_a_cell_without_counts():
    x, mean = np.array([[0.0, 3.0], [0.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 1.0]])
    value = NegativeBinomial(theta=2.0).of_cells(cells(x, mean))
    np.testing.assert_allclose(value, [-stats.nbinom.logpmf(3, 2, 2 / 5), 0], rtol=1e-10)
    slope = jax.grad(lambda z: NegativeBinomial(theta=2.0).of_cells(cells(x, z)).sum())(jnp.asarray(mean))
    assert np.isfinite(slope).all()
    assert np.isnan(Poisson().of_cells(cells(x, -mean + 0.5))[0])  # negative values are not expected counts


def vae_step(rng):
    z, variance = jnp.asarray(rng.normal(0, 1, (9, 3))), jnp.asarray(rng.gamma(2, 0.3, (9, 3)))
    draws = [
        {"log_mean": jnp.log(rng.gamma(2.0, 1.5, (9, 4))), "theta": THETA, "inflation": rng.normal(-1, 1, (9, 4))}
        for _ in range(2)
    ]
    return SimpleNamespace(reconstructions=lambda inputs, outputs: (variance, draws)), z, variance, draws


def by_hand(x, decoded, kind):
    mean, theta = np.exp(decoded["log_mean"]), decoded["theta"]
    if kind == "mse":
        return ((np.log1p(x) - np.log1p(mean)) ** 2).sum(axis=1)
    if kind == "bce":
        return -stats.bernoulli.logpmf(x > 0, 1 - np.exp(-mean)).sum(axis=1)
    if kind == "poisson":
        return -stats.poisson.logpmf(x, mean).sum(axis=1)
    if kind == "nb":
        return scipys(x, mean, theta)
    chance = 1 / (1 + np.exp(-decoded["inflation"]))
    p = (1 - chance) * stats.nbinom.pmf(x, theta, theta / (theta + mean)) + chance * (x == 0)
    return -np.log(p).sum(axis=1)


@pytest.mark.parametrize("kind", ["mse", "bce", "nb", "zinb", "poisson"])
def test_vae_is_reconstruction_and_divergence(counts, kind):
    x, _ = counts
    operator, z, variance, draws = vae_step(np.random.default_rng(1))
    expected = [by_hand(x, {name: np.asarray(v) for name, v in one.items()}, kind) for one in draws]
    np.testing.assert_allclose(reconstruction_loss(jnp.asarray(x), draws[0], kind), expected[0], rtol=1e-6)
    q = stats.norm(z, np.sqrt(variance))  # E[log q - log p] of a normal: minus its entropy, and the cross entropy
    divergence = (-q.entropy() + 0.5 * (np.log(2 * np.pi) + q.moment(2))).sum(axis=1)

    def value(epoch=np.inf, **settings):
        run = {"run": lambda _: (operator, {"x": jnp.asarray(x)}, {"z": z}), "epoch": epoch}
        return Vae(kind, **settings).of_cells(Cells(z=None, read={}, rows=None, **run))

    reconstruction = np.mean(expected, axis=0)
    np.testing.assert_allclose(value(), reconstruction + divergence, rtol=1e-6)
    np.testing.assert_allclose(value(kl_weight=4), reconstruction + 4 * divergence, rtol=1e-6)
    for epoch, share in [(0, 0), (5, 0.25), (10, 0.5), (20, 1), (90, 1), (np.inf, 1)]:
        warm = value(epoch, kl_weight=2, kl_warmup_epochs=20)
        np.testing.assert_allclose(warm, reconstruction + 2 * share * divergence, rtol=1e-6)


def test_masked_reconstruction_is_of_the_hidden_values_alone():
    rng = np.random.default_rng(2)
    x, z, hidden = rng.normal(0, 2, (6, 5)), rng.normal(0, 2, (6, 5)), rng.random((6, 5)) < 0.4
    hidden[0] = False
    found = MaskedReconstruction().of_cells(cells(x, z, hidden=hidden, facts={"variance": 4.0}))
    expected = [((a - b)[h] ** 2).mean() / 4 if h.any() else 0 for a, b, h in zip(x, z, hidden, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="3 columns are reconstructed"):
        MaskedReconstruction().of_cells(cells(x, z[:, :3], hidden=hidden, facts={"variance": 4.0}))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: NegativeBinomial(theta=2.0, dispersion=0.5), "the same parameter"),
        (lambda: NegativeBinomial(theta=0.0), "theta must be a number above 0"),
        (lambda: NegativeBinomial(theta=-1.0), "theta must be a number above 0"),
        (lambda: NegativeBinomial(dispersion=-0.1), "dispersion must be a number from 0"),
        (lambda: NegativeBinomial(dispersion=np.inf), "dispersion must be a number from 0"),
        (lambda: ZINB(inflation=1.0), "inflation must be a number from 0 to below 1"),
        (lambda: Vae("gaussian"), "reconstruction must be one of 'mse'"),
        (lambda: Vae(kl_weight=-1), "kl_weight must be a number of at least 0"),
        (lambda: Vae(kl_warmup_epochs=-1), "kl_warmup_epochs must be"),
        (lambda: MaskedReconstruction(0.0), "mask_rate must be between 0 and 1"),
        (lambda: MaskedReconstruction(1.0), "mask_rate must be between 0 and 1"),
    ],
)
def test_impossible_settings_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_names_that_only_optimize_can_read(counts):
    with pytest.raises(ValueError, match=r"theta is a number here: it is read from var, or learned"):
        NegativeBinomial(theta="theta").of_cells(cells(*counts))
    with pytest.raises(ValueError, match=r"have shape \(9, 3\) and the counts \(9, 4\)"):
        Poisson().of_cells(cells(counts[0], counts[1][:, :3]))


def test_as_typed():
    assert (
        repr(NegativeBinomial("layers/counts", dispersion=0.1)) == "NegativeBinomial('layers/counts', dispersion=0.1)"
    )
    assert repr(ZINB(theta="theta", slot="X")) == "ZINB(slot='X', theta='theta')"
    assert repr(Vae("mse", kl_warmup_epochs=5)) == "Vae('mse', kl_warmup_epochs=5)"
    assert (Elbo() + 0.1 * MaskedReconstruction()).words == "Elbo() + 0.1 * MaskedReconstruction()"
