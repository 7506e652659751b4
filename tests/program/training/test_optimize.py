"""dbx.optimize: what it gains where the components miss the labels, and that it leaves alone what it cannot improve."""

import warnings
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

import dbx
from dbx.losses import CrossEntropy, Reconstruction, cross_entropy
from dbx.program.record.registry import load
from dbx.program.training.split import held_out_groups, make_split

N_CELLS, N_GENES, N_LABELS = 700, 60, 5
QUICK = {"max_epochs": 60, "patience": 10, "learning_rate": 3e-3}


def cells(seed=0, n_cells=N_CELLS):
    """Log values in which a few strong factors say nothing of the label, and ten genes with little variance do."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, N_LABELS, n_cells)
    nuisance = np.random.default_rng(7).normal(0, 1, (3, N_GENES))
    x = rng.normal(0, 1, (n_cells, 3)) @ nuisance + rng.normal(0, 0.5, (n_cells, N_GENES))
    x[:, :10] += np.random.default_rng(8).normal(0, 0.8, (N_LABELS, 10))[label]
    adata = ad.AnnData(x.astype(np.float32))
    adata.obs_names = [f"cell{seed}_{i}" for i in range(n_cells)]
    adata.obs["label"] = np.array(list("abcde"), dtype=object)[label]
    adata.obs["donor"] = np.array(["d0", "d1", "d2", "d3"], dtype=object)[rng.integers(0, 4, n_cells)]
    return adata


def with_pca(seed=0):
    adata = cells(seed)
    dbx.pp.scale(adata)
    dbx.pp.pca(adata, n_comps=3)
    return adata


@pytest.fixture(scope="module")
def before():
    return with_pca()


@pytest.fixture(scope="module")
def after(before):
    return dbx.optimize(before, CrossEntropy("label"), copy=True, **QUICK)


def accuracy(train, test):
    model = LogisticRegression(max_iter=1000).fit(train.obsm["X_pca"], train.obs["label"])
    return model.score(test.obsm["X_pca"], test.obs["label"])


def query(reference, seed=1):
    new = cells(seed)
    dbx.rerun(new, reference=reference)
    return new


def test_new_cells_are_told_apart_that_the_components_confound(before, after):
    assert after.uns["optimize"]["kept"].all()
    assert (after.uns["optimize"]["gain"] > 3 * after.uns["optimize"]["standard_error"]).all()
    # cells that nothing was trained on; the components see little more than the factors
    frozen, trained = accuracy(before, query(before)), accuracy(after, query(after))
    assert frozen < 0.45
    assert trained > frozen + 0.25
    told = query(after)
    assert np.mean(told.obs["label_predicted"].astype(str) == told.obs["label"]) > frozen + 0.25


def test_what_the_steps_wrote_is_what_they_compute_now(after):
    (step,) = [step for step in load(after) if step.operator == "pca"]
    pca = step.build()
    z = (after.X - np.asarray(pca.mean[...])) @ (np.asarray(pca.components[...]) + np.asarray(pca.residual[...]))
    np.testing.assert_allclose(after.obsm["X_pca"], z, atol=1e-4)
    assert np.abs(after.uns["optimize"]["before"]["pca"]["residual"]).max() == 0
    assert np.abs(np.asarray(pca.residual[...])).max() > 0
    np.testing.assert_allclose(after.obsm["label_probabilities"].sum(axis=1), 1, rtol=1e-5)
    best = after.obsm["label_probabilities"].argmax(axis=1)
    assert (np.array(list("abcde"))[best] == after.obs["label_predicted"].astype(str)).all()
    assert len(set(map(len, after.uns["optimize"]["history"].values()))) == 1


@pytest.mark.parametrize(
    "given", [{"config": {"pca": {"n_comps": 2}}}, {"config": {"scale": {"max_value": 5.0}}}, {"refit": "continue"}]
)
@pytest.mark.filterwarnings("ignore:Step 'scale' cannot be rerun", "ignore:Steps that cannot go on")
def test_a_new_fit_of_a_trained_step_is_warned_of(after, given):
    assert dbx.steps(after).loc["pca", "trained"]
    with pytest.warns(UserWarning, match="dbx.optimize trained are fitted again.*lost: 'pca'"):
        again = dbx.rerun(after, **given, copy=True)
    assert not dbx.steps(again).loc["pca", "trained"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        dbx.rerun(after, steps=["pca"], copy=True)


def test_labels_that_nothing_tells_leave_everything_as_it_was(before):
    adata = before.copy()
    adata.obs["label"] = np.random.default_rng(5).permutation(adata.obs["label"].to_numpy())
    dbx.optimize(adata, CrossEntropy("label"), **QUICK)
    assert not adata.uns["optimize"]["kept"].any()
    np.testing.assert_array_equal(adata.obsm["X_pca"], before.obsm["X_pca"])
    assert np.abs(load(adata)["pca"].arrays["residual"][1]).max() == 0
    assert load(adata)["pca"].id == load(before)["pca"].id
    # the head is that of the coordinates as they are, too
    still = before.copy()
    still.obs["label"] = adata.obs["label"]
    dbx.optimize(still, CrossEntropy("label"), **{**QUICK, "learning_rate": 1e-12})
    np.testing.assert_allclose(adata.obsm["label_probabilities"], still.obsm["label_probabilities"], atol=1e-5)


def test_labels_that_no_trained_cell_has_do_not_judge():
    groups = np.repeat(list("abcd"), 30)
    known = np.where(groups == "a", np.arange(120) % 3, np.arange(120) % 2)  # label 2 in group a alone
    dataset = SimpleNamespace(rows=np.arange(120), labels={"x": SimpleNamespace(known=known)}, known={})
    split = next(
        split
        for seed in range(30)
        if 0 in (split := make_split(dataset, groups, 0.25, np.random.default_rng(seed))).hidden
    )
    assert set(groups[split.hidden]) == {"a"}
    assert set(known[split.judging]) == {0, 1}
    assert len(split.hidden) == 30
    assert len(split.judging) == 20


def test_saved_program_tells_the_same_of_new_cells(after, tmp_path):
    after.write_h5ad(tmp_path / "a.h5ad")
    told, again = query(after), query(ad.read_h5ad(tmp_path / "a.h5ad"))
    np.testing.assert_array_equal(told.obsm["label_probabilities"], again.obsm["label_probabilities"])
    here = after.copy()
    dbx.rerun(here, steps=["label_head"])
    np.testing.assert_allclose(here.obsm["label_probabilities"], after.obsm["label_probabilities"], atol=1e-6)


def test_later_steps_are_stale(before):
    adata = before.copy()
    dbx.pp.neighbors(adata, n_neighbors=10)
    dbx.optimize(adata, CrossEntropy("label"), **QUICK)
    assert load(adata).stale(load(adata)["neighbors"])
    assert load(adata).stale(load(adata)["label_head"]) is None


def test_it_trains_through_frozen_steps_that_are_told_the_batch():
    adata = cells()
    adata.obs["batch"] = np.array(["x", "y"], dtype=object)[np.arange(N_CELLS) % 2]
    adata.X[1::2] += 0.5
    dbx.pp.scale(adata)
    dbx.pp.pca(adata, n_comps=3)
    dbx.tl.harmony(adata, key="batch")
    before = adata.copy()
    dbx.optimize(adata, CrossEntropy("label", slot="obsm/X_pca_harmony"), train="pca", **QUICK)
    assert adata.uns["optimize"]["kept"].all()
    registry = load(adata)
    assert all(registry.stale(step) is None for step in registry)
    for name in ("X_pca", "X_pca_harmony"):
        assert np.abs(adata.obsm[name] - before.obsm[name]).max() > 0.1
    # Harmony's own state is as it was
    for name, (_, array) in load(before)["harmony"].arrays.items():
        np.testing.assert_array_equal(registry["harmony"].arrays[name][1], array)
    again = adata.copy()
    dbx.rerun(again, steps=["label_head"])
    np.testing.assert_allclose(again.obsm["X_pca_harmony"], adata.obsm["X_pca_harmony"], atol=1e-4)


def test_cells_without_a_label_take_no_part(before):
    adata = before.copy()
    adata.obs.loc[adata.obs_names[:100], "label"] = "Unknown"
    first = dbx.optimize(adata, CrossEntropy("label"), copy=True, **QUICK)
    missing = adata.copy()
    missing.obs["label"] = missing.obs["label"].replace("Unknown", None)
    again = dbx.optimize(missing, CrossEntropy("label"), copy=True, **QUICK)
    np.testing.assert_array_equal(first.obsm["X_pca"], again.obsm["X_pca"])
    told = first.obs["label_predicted"].astype(str)
    assert set(told) <= set("abcde")
    assert np.mean(told[:100] == before.obs["label"][:100]) > 0.6


def test_groups_are_held_out_as_a_whole_nearest_to_the_share():
    rng = np.random.default_rng(0)
    groups = np.repeat(list("abcdefghij"), 20)
    assert len(held_out_groups(groups, 0.15, rng)) in (1, 2)
    unequal = np.repeat(["large", "small"], [360, 40])
    for seed in range(5):
        assert list(held_out_groups(unequal, 0.15, np.random.default_rng(seed))) == ["small"]
    with pytest.raises(ValueError, match=r"one group only \('a'\)"):
        held_out_groups(groups[:20], 0.15, rng)


def test_nothing_is_trained_on_cells_of_a_held_out_group_that_lack_the_label(before):
    """Cells of a held-out donor that cannot judge, having no label, are left out of the other objective, too."""
    adata = before.copy()
    adata.obs.loc[adata.obs_names[::2], "label"] = None
    loss = CrossEntropy("label") + Reconstruction()
    first = dbx.optimize(adata, loss, split_key="donor", copy=True, **QUICK)
    donors = set(adata.obs.loc[first.uns["optimize"]["held_out"], "donor"])
    silent = adata.obs["donor"].isin(donors) & adata.obs["label"].isna()
    assert silent.sum() > 30
    adata.X[silent.to_numpy()] += 1.0  # the held-out cells themselves stay
    adata.obsm["X_pca"] = before.obsm["X_pca"].copy()
    with pytest.MonkeyPatch.context() as patch:  # what was changed outside is taken as it is
        patch.setattr("dbx.program.replay.location.Location._is", lambda *args, **kwargs: True)
        again = dbx.optimize(adata, loss, split_key="donor", copy=True, **QUICK)
    for name, values in first.uns["optimize"]["history"].items():
        np.testing.assert_array_equal(values, again.uns["optimize"]["history"][name])


def test_a_test_split_in_the_same_object_is_not_touched(before):
    adata = before.copy()
    adata.obs["train"] = np.arange(N_CELLS) % 3 > 0
    first = dbx.optimize(adata, CrossEntropy("label"), subset="train", copy=True, **QUICK)
    assert first.uns["optimize"]["kept"].all()
    assert adata.obs.loc[first.uns["optimize"]["held_out"], "train"].all()
    adata.obs.loc[~adata.obs["train"], "label"] = "a"
    again = dbx.optimize(adata, CrossEntropy("label"), subset="train", copy=True, **QUICK)
    np.testing.assert_array_equal(first.obsm["X_pca"], again.obsm["X_pca"])
    np.testing.assert_array_equal(first.obsm["label_probabilities"], again.obsm["label_probabilities"])


def test_how_steps_were_trained_is_recorded(after, before, capsys):
    step = load(after)["pca"]
    assert step.trained["loss"] == "CrossEntropy('label')"
    assert step.trained["gain"] == after.uns["optimize"]["gain"][0]
    assert dbx.steps(after).loc["pca", "trained"] == "CrossEntropy('label')"
    assert dbx.steps(before).loc["pca", "trained"] == ""
    dbx.optimize(before, CrossEntropy("label"), copy=True, max_epochs=2)
    assert "pca: +" in capsys.readouterr().err


def test_new_slots_are_written_whether_or_not_anything_was_kept(before):
    adata = before.copy()
    adata.obs["label"] = np.random.default_rng(5).permutation(adata.obs["label"].to_numpy())
    dbx.optimize(adata, CrossEntropy("label"), key_added="new", **QUICK)
    assert not adata.uns["optimize"]["kept"].any()
    np.testing.assert_array_equal(adata.obsm["X_pca_new"], before.obsm["X_pca"])
    dbx.optimize(adata, CrossEntropy("label"), key_added="new", steps="pca", **QUICK)
    assert "X_pca_new_new" not in adata.obsm
    dbx.optimize(adata, CrossEntropy("label", slot="obsm/X_pca_new"), **QUICK)
    assert list(adata.uns["optimize"]["trained"]) == ["pca_new"]


def test_same_seed_same_bits(before, after):
    again = dbx.optimize(before, CrossEntropy("label"), copy=True, **QUICK)
    np.testing.assert_array_equal(again.obsm["X_pca"], after.obsm["X_pca"])
    other = dbx.optimize(before, CrossEntropy("label"), copy=True, random_state=1, **QUICK)
    assert np.abs(other.obsm["X_pca"] - after.obsm["X_pca"]).max() > 1e-3


def test_cross_entropy_is_sklearns():
    from sklearn.metrics import log_loss

    rng = np.random.default_rng(0)
    logits, codes = rng.normal(0, 2, (30, 4)), np.arange(30) % 4
    share = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert float(cross_entropy(logits, codes).mean()) == pytest.approx(
        log_loss(codes, share, labels=range(4)), rel=1e-5
    )
    assert float(cross_entropy(logits, np.full(30, -1)).sum()) == 0


@pytest.mark.parametrize(
    ("change", "settings", "match"),
    [
        (lambda a: a.uns.pop("dbx"), {}, "No program is recorded here"),
        (None, {"train": "scale"}, "Step 'scale' has no parameters to train; those that have: pca"),
        (None, {"train": "umap"}, "There is no step 'umap'"),
        (None, {"split_key": "one"}, "one group only"),
        (None, {"validation": 1.5}, "validation, the fraction of held-out cells, must be .*; got 1.5"),
        (None, {"validation": 0.003}, "2 of 700 cells would be held out to judge by"),
        (None, {"learning_rate": -1.0}, "learning_rate must be above 0; got -1.0"),
        (None, {"anchor": float("nan")}, "anchor must be at least .*; got nan"),
        (None, {"batch_size": 0}, "batch_size must be at least .*; got 0"),
        (None, {"train": ["pca", "pca"]}, "names a step twice"),
        (None, {"steps": ["nosuch"]}, "There is no step 'nosuch'"),
        (None, {"key_added": "a/b"}, "key_added must be a name without"),
        (None, {"subset": "donor"}, "must be a boolean column"),
        (
            lambda a: a.obs.insert(0, "label", np.arange(N_CELLS) / 7 + a.obs.pop("label").eq("a")),
            {},
            "holds fractions",
        ),
        (lambda a: a.obs.insert(0, "donor", a.obs.pop("donor").replace("d0", None)), {"split_key": "donor"}, "missing"),
        (
            lambda a: a.obs.insert(0, "label", a.obs.pop("label").map(lambda _: "a")),
            {},
            "two labels or more are needed",
        ),
    ],
)
def test_wrong_input_is_told_and_leaves_the_data_alone(before, change, settings, match):
    adata = before.copy()
    adata.obs["one"] = "same"
    if change is not None:
        change(adata)
    keys = set(adata.uns), set(adata.obs), set(adata.obsm)
    with pytest.raises((ValueError, KeyError), match=match):
        dbx.optimize(adata, CrossEntropy("label"), **{**QUICK, **settings})
    assert keys == (set(adata.uns), set(adata.obs), set(adata.obsm))
    np.testing.assert_array_equal(adata.obsm["X_pca"], before.obsm["X_pca"])


def test_a_slot_that_does_not_follow_from_the_steps_is_refused(before):
    adata = before.copy()
    dbx.pp.neighbors(adata, n_neighbors=10)
    dbx.tl.umap(adata)
    with pytest.raises(ValueError, match="does not work on each cell by itself"):
        dbx.optimize(adata, CrossEntropy("label", slot="obsm/X_umap"), **QUICK)
    with pytest.raises(ValueError, match=r"adata.X is not computed from a projection \(PCA, VAE\) among scale, pca"):
        dbx.optimize(adata, CrossEntropy("label", slot="X"), **QUICK)
    with pytest.raises(ValueError, match=r"adata.X is not computed from what 'pca' writes"):
        dbx.optimize(adata, CrossEntropy("label", slot="X"), train="pca", **QUICK)
