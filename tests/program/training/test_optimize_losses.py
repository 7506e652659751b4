"""dbx.optimize with other objectives than labels: what each improves, sums of them, several steps, new slots."""

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dbx
from dbx.losses import (
    BatchMixing,
    Compactness,
    CrossEntropy,
    Elbo,
    Function,
    OpenGates,
    Reconstruction,
    Sum,
    VelocityConsistency,
)
from dbx.program.record.registry import load
from dbx.program.replay.location import Location
from dbx.program.training.chain import make_chain
from dbx.program.training.layouts import trustworthiness
from dbx.program.training.trainable import Trainable

N_CELLS, N_GENES = 600, 40
QUICK = {"max_epochs": 40, "patience": 10, "learning_rate": 3e-3}


def cells():
    """Log values: a strong factor of no label, a batch effect on ten genes, three types on eight weak ones."""
    rng = np.random.default_rng(0)
    label, batch = rng.integers(0, 3, N_CELLS), rng.integers(0, 2, N_CELLS)
    x = np.outer(rng.normal(0, 1, N_CELLS), np.random.default_rng(1).normal(0, 1.5, N_GENES))
    x += rng.normal(0, 0.5, x.shape)
    x[:, :8] += np.random.default_rng(2).normal(0, 0.7, (3, 8))[label]
    x[:, 20:30] += 1.2 * batch[:, None]
    adata = ad.AnnData(x.astype(np.float32))
    adata.obs_names = [f"cell{i}" for i in range(N_CELLS)]
    adata.obs["label"] = np.array(list("abc"), dtype=object)[label]
    adata.obs["batch"] = np.array(list("xy"), dtype=object)[batch]
    return adata


@pytest.fixture(scope="module")
def before():
    adata = cells()
    dbx.pp.scale(adata)
    dbx.pp.pca(adata, n_comps=4)
    return adata


def trained(adata, loss, **settings):
    return dbx.optimize(adata, loss, copy=True, **{**QUICK, **settings})


def change(adata, name):
    found = adata.uns["optimize"]["losses"][name]
    return found["before"], found["after"]


@pytest.mark.arithmetic
def test_batches_mix_by_lisi_and_a_smaller_embedding_is_not_how(before):
    after = trained(before, BatchMixing("batch"), max_epochs=100)
    assert after.uns["optimize"]["kept"].all()
    mixed = [dbx.tl.lisi(a, "batch", use_rep="X_pca", inplace=False).iloc[:, 0].mean() for a in (before, after)]
    assert mixed[1] > mixed[0] + 0.1
    assert after.obsm["X_pca"].std() > 0.5 * before.obsm["X_pca"].std()


@pytest.mark.arithmetic
def test_compact_groups_by_the_share_of_variance_within(before):
    after = trained(before, Compactness("label"))

    def within(adata):
        z, label = adata.obsm["X_pca"], adata.obs["label"].to_numpy()
        rest = sum(((z[label == x] - z[label == x].mean(axis=0)) ** 2).sum() for x in "abc")
        return rest / ((z - z.mean(axis=0)) ** 2).sum()

    assert within(after) < within(before) - 0.2
    assert change(after, "compactness")[0] == pytest.approx(within(before), abs=0.1)


@pytest.mark.arithmetic
def test_reconstruction_has_nothing_to_gain_at_the_components(before):
    """They are the best linear map already: the share of variance that is lost is theirs, and stays."""
    after = trained(before, Reconstruction())
    assert not after.uns["optimize"]["kept"].any()
    lost = 1 - before.uns["pca"]["variance_ratio"].sum()
    assert change(after, "reconstruction")[0] == pytest.approx(lost, abs=0.05)
    # from components that were trained for something else there is
    spoilt = trained(before, CrossEntropy("label"), anchor=0.0, learning_rate=0.03)
    again = trained(spoilt, Reconstruction("X"), anchor=0.0)
    assert again.uns["optimize"]["kept"].all()
    assert change(after, "reconstruction")[0] < change(again, "reconstruction")[1] < change(again, "reconstruction")[0]


@pytest.mark.arithmetic
def test_velocities_are_pushed_through_the_program(before):
    adata = before.copy()
    velocity = np.random.default_rng(3).normal(0, 1, adata.shape)
    velocity[:, :8] += 3 * np.random.default_rng(4).normal(0, 1, 8)
    velocity[:, 39] = np.nan  # a gene without a velocity, as scVelo leaves them
    adata.layers["velocity"] = velocity.astype(np.float32)
    after = trained(adata, VelocityConsistency())
    assert after.uns["optimize"]["kept"].all()
    # a linear program pushes velocities by its loadings
    pushed = np.nan_to_num(velocity) @ before.varm["PCs"]
    slot = adata.copy()
    slot.obsm["velocity"] = pushed.astype(np.float32)
    same = trained(slot, VelocityConsistency("obsm/velocity"), max_epochs=1)
    assert change(same, "velocity_consistency")[0] == pytest.approx(change(after, "velocity_consistency")[0], rel=1e-3)


def test_any_function_of_slots(before):
    after = trained(before, lambda z: (z[:, 0] - 1) ** 2)
    assert change(after, "function")[0] == pytest.approx(((before.obsm["X_pca"][:, 0] - 1) ** 2).mean(), rel=0.3)
    assert change(after, "function")[1] < 0.2 * change(after, "function")[0]
    seen = {}

    def apart(z, batch, x):
        seen["shapes"] = z.shape, batch.shape, x.shape, batch.dtype
        return z[:, 1] * (2 * batch - 1)

    after = trained(before, Function(apart, slots=("obs/batch", "X")))
    size = seen["shapes"][0][0]
    assert seen["shapes"] == ((size, 4), (size,), (size, N_GENES), jnp.int32)
    difference = [a.obsm["X_pca"][(a.obs["batch"] == "x").to_numpy(), 1].mean() for a in (before, after)]
    assert difference[1] > difference[0]
    with pytest.raises(ValueError, match=r"must return one value for each of the \d+ cells"):
        trained(before, lambda z: z.mean())


@pytest.mark.arithmetic
def test_sums_are_balanced_by_their_sizes_before_or_weighted_as_told(before):
    balanced = trained(before, Function(lambda z: z[:, 0]) + Function(lambda z: 100 * z[:, 1]))
    parts = balanced.uns["optimize"]["losses"]
    held_out = before[balanced.uns["optimize"]["held_out"]].obsm["X_pca"]
    sizes = np.sqrt((held_out[:, :2] ** 2).mean(axis=0)) * [1, 100]
    np.testing.assert_allclose([part["weight"] for part in parts.values()], 1 / sizes, rtol=1e-4)
    balanced = trained(before, CrossEntropy("label") + BatchMixing("batch"))
    losses = balanced.uns["optimize"]["losses"]
    total = sum(part["weight"] * (part["before"] - part["after"]) for part in losses.values())
    assert balanced.uns["optimize"]["gain"][0] == pytest.approx(total, rel=1e-4)
    weighted = trained(before, CrossEntropy("label") + 0.25 * BatchMixing("batch"))
    assert [part["weight"] for part in weighted.uns["optimize"]["losses"].values()] == [1, 0.25]
    # the epoch is chosen by the same sum, and where nothing better follows it is the one before
    history = balanced.uns["optimize"]["history"]
    after_weighted = sum(part["weight"] * part["after"] for part in losses.values())
    assert history["validation_loss"].min() == pytest.approx(after_weighted, rel=1e-3)
    both = 2 * (CrossEntropy("label") + 0.25 * BatchMixing("batch"))
    assert isinstance(both, Sum)
    assert both.weights == (2, 0.5)
    assert set(balanced.uns["optimize"]["history"]) > {"loss", "validation_loss", "cross_entropy", "batch_mixing"}


@pytest.mark.arithmetic
def test_steps_are_freed_one_after_the_other_and_kept_one_by_one(before):
    adata = before.copy()
    dbx.tl.harmony(adata, "batch")
    loss = CrossEntropy("label", slot="obsm/X_pca_harmony")
    after = trained(adata, loss, train=["pca", "harmony"])
    found = after.uns["optimize"]
    assert list(found["trained"]) == ["pca", "harmony"]
    assert found["kept"][0]
    assert set(found["before"]) == {"pca", "harmony"}
    assert set(found["before"]["harmony"]) == {"coefficients", "strength"}
    for name, kept in zip(("pca", "harmony"), found["kept"], strict=True):
        arrays = load(after)[name].arrays
        moved = [np.abs(arrays[n][1] - x).max() > 0 for n, x in found["before"][name].items()]
        assert any(moved) == kept
    assert set(found["history"]["stage"]) == {0, 1}
    at_once = trained(adata, loss, train=[("pca", "harmony")])
    assert list(at_once.uns["optimize"]["trained"]) == ["pca + harmony"]


def test_only_named_steps_are_trained_through(before):
    adata = before.copy()
    dbx.tl.harmony(adata, "batch")
    after = trained(adata, CrossEntropy("label"), steps=["pca", "harmony"], max_epochs=3)
    assert load(after)["label_head"].reads["z"].slots == ("obsm/X_pca_harmony",)
    with pytest.raises(ValueError, match="leaves out 'harmony'"):
        trained(adata, CrossEntropy("label", slot="obsm/X_pca_harmony"), steps=["pca"])


def test_new_slots_leave_the_steps_as_they_are(before, tmp_path):
    after = trained(before, CrossEntropy("label"), key_added="by_label")
    np.testing.assert_array_equal(after.obsm["X_pca"], before.obsm["X_pca"])
    assert load(after)["pca"].id == load(before)["pca"].id
    direct = trained(before, CrossEntropy("label"))
    np.testing.assert_array_equal(after.obsm["X_pca_by_label"], direct.obsm["X_pca"])
    after.write_h5ad(tmp_path / "a.h5ad")
    query = cells()
    dbx.rerun(query, reference=ad.read_h5ad(tmp_path / "a.h5ad"))
    np.testing.assert_allclose(query.obsm["X_pca_by_label"], after.obsm["X_pca_by_label"], atol=1e-4)
    np.testing.assert_allclose(query.obsm["label_probabilities"], after.obsm["label_probabilities"], atol=1e-4)


def test_variances_of_trained_components_are_those_of_their_scores(before):
    after = trained(before, CrossEntropy("label"))
    variance = after.obsm["X_pca"].astype(float).var(axis=0, ddof=1)
    np.testing.assert_allclose(after.uns["pca"]["variance"], variance, rtol=1e-4)
    total = before.uns["pca"]["variance"][0] / before.uns["pca"]["variance_ratio"][0]
    np.testing.assert_allclose(after.uns["pca"]["variance_ratio"], variance / total, rtol=1e-4)


@pytest.fixture(scope="module")
def counted():
    rng = np.random.default_rng(5)
    label = rng.integers(0, 3, 500)
    means = rng.gamma(1.0, 2.0, 30) * np.exp(np.random.default_rng(6).normal(0, 0.5, (3, 30)))[label]
    adata = ad.AnnData(rng.poisson(means * rng.uniform(0.3, 3, (500, 1))).astype(np.float32))
    adata.obs["label"] = np.array(list("abc"), dtype=object)[label]
    return adata


def test_normalisation_is_trained_from_counts_that_lie_in_a_layer(counted):
    adata = counted.copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=3)
    # another total of logarithms than theirs, and the same for all cells
    target = Function(lambda z: (z.sum(axis=1) - 30) ** 2 / 100, slot="X")
    after = trained(adata, target, train=["normalize_total"], learning_rate=0.02, max_epochs=60)
    moved = load(after)["normalize_total"].build()
    assert after.uns["optimize"]["kept"].all()
    power, factor = float(moved.power[...]), float(moved.log_factor[...])
    assert abs(power - 1) > 0.01
    assert abs(factor) > 0.01
    counts = counted.X
    by_hand = np.log1p(counts / (counts.sum(axis=1, keepdims=True) / np.median(counts.sum(axis=1))) ** power)
    by_hand = np.log1p(np.expm1(by_hand) * np.exp(factor))
    np.testing.assert_allclose(after.X, by_hand, rtol=1e-4, atol=1e-5)
    gone = adata.copy()
    del gone.layers["counts"]
    with pytest.raises(ValueError, match="not any more what the program read there, and cannot be computed again"):
        trained(gone, target, train=["normalize_total"])


@pytest.mark.arithmetic
def test_an_autoencoder_is_trained_by_labels_and_its_own_bound(counted):
    adata = counted.copy()
    dbx.pp.vae_normalize(adata, n_latent=3, n_hidden=16, max_epochs=30)
    bound = float(np.mean(load(adata)["vae_normalize"].build().loss({"x": adata.X}, {"z": adata.obsm["X_vae"]})))
    after = trained(adata, Elbo() + CrossEntropy("label"), learning_rate=1e-3, max_epochs=20)
    assert change(after, "elbo")[0] == pytest.approx(bound, rel=0.1)
    assert after.uns["optimize"]["kept"].all()
    assert change(after, "cross_entropy")[1] < 0.9 * change(after, "cross_entropy")[0]
    query = counted.copy()
    dbx.rerun(query, reference=after)
    np.testing.assert_allclose(query.obsm["X_vae"], after.obsm["X_vae"], atol=1e-4)


def test_labels_weigh_as_told_however_few_cells_have_them(before):
    """The mean over the labelled cells is what is trained, not that over all."""
    adata = before.copy()
    adata.obs.loc[adata.obs_names[60:], "label"] = "Unknown"
    after = trained(adata, CrossEntropy("label") + 0.1 * BatchMixing("batch"), max_epochs=2)
    history = after.uns["optimize"]["history"]
    assert history["cross_entropy"][0] > 0.5 * change(after, "cross_entropy")[0]


def test_gates_are_noisy_in_training_alone():
    adata = cells()
    dbx.pp.pca(adata, n_comps=4, projection="gated")
    registry = load(adata)
    chain = make_chain(registry, Location(adata, registry, {}, own=True), N_CELLS, ["pca"], [None])
    operators = chain.pipeline.operators
    model = Trainable(chain.pipeline, {"pca": operators["pca"]}, {}, {}, {})
    key = jax.random.key(3)
    noise = operators["pca"].jitter(jax.random.fold_in(key, 0))
    assert noise
    clean, noisy = model.parameters()["pca"], model.jittered(operators, key)["pca"]
    for name, value in clean.items():
        np.testing.assert_allclose(noisy[name], value + noise.get(name, 0), rtol=1e-6)
    assert any(np.abs(noisy[name] - clean[name]).max() > 0.1 for name in noise)


def test_objectives_are_checked_and_tell_what_they_are():
    assert (CrossEntropy("a") + 0.5 * BatchMixing("b", slot="obsm/z")).words == (
        "CrossEntropy('a') + 0.5 * BatchMixing('b', slot='obsm/z')"
    )
    assert len(sum([CrossEntropy("a"), BatchMixing("b")]).parts) == 2
    for weight in (-1, 0, float("nan"), "a"):
        with pytest.raises(ValueError, match="weight of an objective must be a number above 0"):
            weight * CrossEntropy("a")
    adata = cells()
    with pytest.raises(TypeError, match="Pass an instance, not the class: CrossEntropy"):
        dbx.optimize(adata, CrossEntropy)
    with pytest.raises(TypeError, match="must be an objective such as"):
        dbx.optimize(adata, "label")


@pytest.fixture(scope="module")
def layout(before):
    adata = before.copy()
    dbx.pp.neighbors(adata, n_neighbors=10, use_rep="X_pca")
    dbx.tl.umap(adata, method="parametric", n_hidden=32, max_epochs=5)
    return adata


@pytest.mark.arithmetic
def test_a_parametric_layout_is_trained_as_a_network(layout):
    """Three types that the layout mixes are told from it after training; new cells go through the same network."""
    adata = layout.copy()
    after = trained(adata, CrossEntropy("label"), train="parametric_umap", max_epochs=60)
    assert after.uns["optimize"]["kept"].all()
    assert load(after)["label_head"].reads["z"].slots == ("obsm/X_umap",)
    assert change(after, "cross_entropy")[1] < change(after, "cross_entropy")[0] - 0.03
    assert np.abs(after.obsm["X_umap"] - adata.obsm["X_umap"]).max() > 0.1


@pytest.mark.arithmetic
def test_compact_clusters_do_not_falsify_a_layout(layout):
    """Groups that the layout shows become compact; held-out cells keep their neighbours to .01."""
    adata = layout.copy()
    adata.obs["part"] = np.where(adata.obsm["X_pca"][:, 0] > 0, "one", "two")
    after = trained(adata, Compactness("part", slot="obsm/X_umap"), train="parametric_umap", max_epochs=15)
    assert after.uns["optimize"]["kept"].all()
    held_out = adata.obs_names.get_indexer(after.uns["optimize"]["held_out"])
    order = np.concatenate([held_out, np.setdiff1d(np.arange(N_CELLS), held_out)])
    shown = [trustworthiness(x.obsm["X_pca"][order], x.obsm["X_umap"][order], len(held_out)) for x in (adata, after)]
    assert np.mean(shown[0] - shown[1]) <= 0.01
    assert change(after, "compactness")[1] < change(after, "compactness")[0] - 0.02


@pytest.mark.parametrize(
    ("loss", "settings", "match"),
    [
        (BatchMixing("nowhere"), {}, "nowhere"),
        (BatchMixing("one"), {}, "one batch only"),
        (OpenGates(), {}, "has no gates"),
        (OpenGates("scale"), {}, "Step 'scale' of the chain with gates is needed"),
        (Elbo("scale"), {}, "Step 'scale' of the chain with an objective of its own is needed"),
        (CrossEntropy("label"), {"train": []}, r"train=\[\] names no step"),
        (VelocityConsistency("layers/velocity"), {}, r"adata.layers\['velocity'\] is missing"),
        (CrossEntropy("label") + CrossEntropy("label", slot="obsm/X_pca"), {}, "predicted from two slots"),
        (BatchMixing("batch") + Function(lambda z: 0 * z[:, 0]), {}, "function is 0 already"),
        (CrossEntropy("label"), {"steps": ["scale"]}, "There is no projection"),
    ],
)
def test_wrong_input_is_told_and_leaves_the_data_alone(before, loss, settings, match):
    adata = before.copy()
    adata.obs["one"] = "same"
    keys = set(adata.uns), set(adata.obs), set(adata.obsm)
    with pytest.raises((ValueError, KeyError), match=match):
        dbx.optimize(adata, loss, **QUICK, **settings)
    assert keys == (set(adata.uns), set(adata.obs), set(adata.obsm))
