"""dbx.optimize with objectives of counts, of autoencoders, of hidden values and of fragments."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import stats

import dbx
from dbx.losses import ZINB, Elbo, ExpectedFragments, MaskedReconstruction, NegativeBinomial, Poisson, Vae
from dbx.program.record.registry import load

N_CELLS, N_GENES = 300, 24
QUICK = {"max_epochs": 6, "patience": 6, "learning_rate": 3e-3}


def counts(seed=0):
    """Negative binomial counts (theta 5) of two factors, cells of different depth."""
    rng = np.random.default_rng(seed)
    log = 0.8 * rng.normal(0, 1, (N_CELLS, 2)) @ np.random.default_rng(5).normal(0, 1, (2, N_GENES))
    share = np.exp(log + np.random.default_rng(6).normal(0, 1, N_GENES))
    mean = rng.lognormal(5, 0.3, (N_CELLS, 1)) * share / share.sum(axis=1, keepdims=True)
    adata = ad.AnnData(rng.poisson(mean * rng.gamma(5, 1 / 5, mean.shape)).astype(np.float32))
    adata.obs_names = [f"cell{i}" for i in range(N_CELLS)]
    adata.layers["counts"] = adata.X.copy()
    adata.var["theta"] = np.linspace(1, 9, N_GENES)
    return adata


@pytest.fixture(scope="module")
def with_pca():
    adata = counts()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=2)
    return adata


@pytest.fixture(scope="module")
def with_vae():
    adata = counts()
    dbx.pp.vae_normalize(adata, likelihood="zinb", n_latent=2, n_hidden=16, max_epochs=8, batch_size=64)
    return adata


def trained(adata, loss, **settings):
    return dbx.optimize(adata, loss, copy=True, **{**QUICK, **settings})


def change(adata, name):
    found = adata.uns["optimize"]["losses"][name]
    return found["before"], found["after"]


def held_out(adata, after):
    return adata[after.uns["optimize"]["held_out"]]


@pytest.mark.parametrize("loss", [Poisson("layers/counts"), NegativeBinomial("layers/counts"), ZINB("layers/counts")])
def test_components_from_which_counts_are_decoded(with_pca, loss):
    after = trained(with_pca, loss)
    before, now = change(after, loss.name)
    x = held_out(with_pca, after).layers["counts"].astype(float)
    rest = np.setdiff1d(with_pca.obs_names, after.uns["optimize"]["held_out"])
    others = with_pca[rest].layers["counts"].sum(axis=0)
    mean = x.sum(axis=1, keepdims=True) * others / others.sum()
    # the gene means with the right dispersion; with it and the coordinates there is less to explain
    of_means = -stats.nbinom.logpmf(x, 5, 5 / (5 + mean)).sum(axis=1).mean()
    if loss.name == "poisson":
        of_means = -stats.poisson.logpmf(x, mean).sum(axis=1).mean()
    assert before < 0.97 * of_means
    assert now <= before + 1e-4


def test_expected_counts_are_compared_as_they_are(with_vae):
    after = trained(with_vae, NegativeBinomial(slot="layers/vae_normalized", theta="theta"), train="vae_normalize")
    part = held_out(with_vae, after)
    x = part.layers["counts"].astype(float)
    mean = part.layers["vae_normalized"].astype(float)
    mean *= x.sum(axis=1, keepdims=True) / mean.sum(axis=1, keepdims=True)
    theta = with_vae.var["theta"].to_numpy()
    expected = -stats.nbinom.logpmf(x, theta, theta / (theta + mean)).sum(axis=1).mean()
    assert change(after, "negative_binomial")[0] == pytest.approx(expected, rel=1e-4)
    assert change(after, "negative_binomial")[1] < expected


def test_vae_with_the_steps_own_likelihood_is_its_elbo(with_vae):
    own = trained(with_vae, Elbo(), train="vae_normalize", max_epochs=1)
    same = trained(with_vae, Vae("zinb"), train="vae_normalize", max_epochs=1)
    np.testing.assert_allclose(change(same, "vae"), change(own, "elbo"), rtol=1e-5)
    heavy = trained(with_vae, Vae("zinb", kl_weight=3), train="vae_normalize", max_epochs=1)
    assert change(heavy, "vae")[0] > change(own, "elbo")[0]


def test_the_weight_of_the_divergence_warms_up_in_training_alone(with_vae):
    slow, full = (
        trained(with_vae, Vae("zinb", kl_weight=5, kl_warmup_epochs=epochs), train="vae_normalize", max_epochs=4)
        for epochs in (4, 0)
    )
    assert change(slow, "vae")[0] == pytest.approx(change(full, "vae")[0], rel=1e-6)
    losses = [found.uns["optimize"]["history"]["loss"] for found in (slow, full)]
    differences = losses[1] - losses[0]  # five times the divergence, most of which is left out of the first epoch
    assert differences[0] > 0
    assert differences[0] > 2 * abs(differences[-1])


def test_another_reconstruction_and_one_that_the_step_does_not_have(with_vae):
    after = trained(with_vae, Vae("mse", kl_weight=0.1), train="vae_normalize")
    assert change(after, "vae")[1] < change(after, "vae")[0]
    poisson = counts()
    dbx.pp.vae_normalize(poisson, likelihood="poisson", n_latent=2, n_hidden=8, max_epochs=1)
    with pytest.raises(ValueError, match=r"Vae\('nb'\) needs theta"):
        trained(poisson, Vae("nb"))


def test_hidden_values_are_reconstructed(with_pca):
    after = trained(with_pca, MaskedReconstruction(0.3), learning_rate=1e-2, max_epochs=12)
    before, now = change(after, "masked_reconstruction")
    assert 0.2 < before < 0.95  # the mean has 1; noise and hidden values leave a part
    assert now <= before
    # a slot with genes is compared as it is
    adata = counts()
    dbx.pp.denoise(adata, n_units=16, n_latents=4, n_blocks=1, max_epochs=2, target_sum=None)
    slot = next(slot for slot in load(adata)["denoise"].writes.values() if slot.startswith("layers/"))
    after = trained(adata, MaskedReconstruction(slot=slot), train="denoise", max_epochs=2)
    assert np.isfinite(change(after, "masked_reconstruction")).all()


def test_other_objectives_see_all_values(with_pca):
    alone = trained(with_pca, Poisson("layers/counts"), max_epochs=1)
    both = trained(with_pca, 1.0 * Poisson("layers/counts") + MaskedReconstruction(0.5), max_epochs=1)
    assert change(both, "poisson")[0] == pytest.approx(change(alone, "poisson")[0], rel=1e-6)


def test_fragments_train_the_weights_of_classes():
    table = pd.DataFrame({"transcripts": ["a", "b", "a,b", "b,c", "c"]})
    table["weights"] = ["1", "1", "0.5,0.5", "0.7,0.3", "1"]
    rng = np.random.default_rng(0)
    for i in range(40):
        table[f"s{i}"] = rng.poisson([60, 30, 200, 60, 40])
    lengths = pd.DataFrame({"effective_length": [900.0, 400.0, 600.0]}, index=["a", "b", "c"])
    tx = dbx.tl.quantify(table, transcripts=lengths)
    before = -tx.uns["quantify"]["log_likelihood"] / tx.X.sum(axis=1)
    after = dbx.optimize(tx, ExpectedFragments(), train="quantify", copy=True, **QUICK)
    part = tx.obs_names.isin(after.uns["optimize"]["held_out"])
    assert change(after, "expected_fragments")[0] == pytest.approx(before[part].mean(), rel=1e-5)
    assert change(after, "expected_fragments")[1] < change(after, "expected_fragments")[0]


def test_bad_input_is_refused_and_leaves_the_data_alone(with_pca):
    adata = with_pca.copy()
    words = {
        r"Poisson needs raw counts.*Poisson\('layers/counts'\)": Poisson(),  # the input of pca: logarithms
        "no_such": NegativeBinomial("layers/counts", theta="no_such"),
        "hold valid values of dispersion": NegativeBinomial("layers/counts", dispersion="bad"),
        "needed; steps that have": Vae("nb"),
    }
    adata.var["bad"] = -1.0
    for match, loss in words.items():
        with pytest.raises((ValueError, KeyError), match=match):
            dbx.optimize(adata, loss, **QUICK)
    assert "optimize" not in adata.uns
    np.testing.assert_array_equal(adata.obsm["X_pca"], with_pca.obsm["X_pca"])
