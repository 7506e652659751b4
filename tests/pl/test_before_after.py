"""Pictures of an optimisation: what was before is computed from the kept parameters; curves are those of uns."""

import anndata as ad
import numpy as np
import pytest
from matplotlib.colors import to_hex

import dbx
from dbx.losses import CrossEntropy
from dbx.pl._palette import CATEGORIES
from dbx.pl.before_after import before_after
from dbx.pl.history import history


def cells():
    """Labels that strong factors hide from the first components."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 4, 400)
    x = rng.normal(0, 1, (400, 3)) @ np.random.default_rng(7).normal(0, 1, (3, 40)) + rng.normal(0, 0.5, (400, 40))
    x[:, :10] += np.random.default_rng(8).normal(0, 0.8, (4, 10))[label]
    adata = ad.AnnData(x.astype(np.float32))
    adata.obs["label"] = np.array(list("abcd"), dtype=object)[label]
    return adata


@pytest.fixture(scope="module")
def before():
    adata = cells()
    dbx.pp.scale(adata)
    dbx.pp.pca(adata, n_comps=3)
    return adata


@pytest.fixture(scope="module")
def after(before):
    adata = dbx.optimize(before, CrossEntropy("label"), max_epochs=30, learning_rate=3e-3, copy=True)
    assert adata.uns["optimize"]["kept"].all()
    return adata


def places(ax):
    return np.asarray(ax.collections[0].get_offsets())


def rims(ax):
    return np.asarray(ax.collections[0].get_linewidths())


def test_what_was_before_is_what_was_there(before, after, tmp_path):
    after.write_h5ad(tmp_path / "a.h5ad")
    for adata in (after, ad.read_h5ad(tmp_path / "a.h5ad")):
        left, right = before_after(adata, show=False)
        apart = adata.obs_names.isin(adata.uns["optimize"]["held_out"])
        order = np.argsort(apart, kind="stable")
        np.testing.assert_allclose(places(left), before.obsm["X_pca"][order, :2], atol=1e-4)
        np.testing.assert_array_equal(places(right), after.obsm["X_pca"][order, :2])
        np.testing.assert_array_equal(rims(left) > 0, apart[order])
        assert apart.sum() == 60
        colours = [to_hex(c) for c in left.collections[0].get_facecolors()]
        assert colours == [CATEGORIES["abcd".index(label)] for label in adata.obs["label"].to_numpy()[order]]
        assert [ax.get_title() for ax in (left, right)] == ["before", "after"]
        assert left.figure.get_suptitle().startswith("pca: +")
        assert "kept" in left.figure.get_suptitle()
        assert [text.get_text() for text in right.get_legend().texts] == [*"abcd", "held out"]


def test_where_the_trained_went_to_slots_of_their_own_both_are_there(before, after):
    adata = dbx.optimize(
        before, CrossEntropy("label"), max_epochs=30, learning_rate=3e-3, key_added="better", copy=True
    )
    left, right = before_after(adata, show=False)
    order = np.argsort(adata.obs_names.isin(adata.uns["optimize"]["held_out"]), kind="stable")
    np.testing.assert_array_equal(places(left), before.obsm["X_pca"][order, :2])
    np.testing.assert_array_equal(places(right), adata.obsm["X_pca_better"][order, :2])
    np.testing.assert_allclose(adata.obsm["X_pca_better"], after.obsm["X_pca"], rtol=1e-4, atol=1e-4)


def test_other_columns_numbers_and_slots(after):
    adata = after.copy()
    adata.obs["depth"] = np.arange(400.0)
    adata.obsm["old"] = np.random.default_rng(0).normal(size=(400, 3))
    left, right = before_after(adata, "depth", before="obsm/old", components=(3, 1), title="mine", show=False)
    order = np.argsort(adata.obs_names.isin(adata.uns["optimize"]["held_out"]), kind="stable")
    np.testing.assert_array_equal(places(left), adata.obsm["old"][order][:, [2, 0]])
    np.testing.assert_array_equal(left.collections[0].get_array(), np.arange(400.0)[order])
    assert right.get_xlabel() == "X_pca 3"
    assert left.figure.get_suptitle() == "mine"


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"components": (1, 4)}, ValueError, "components must be columns of .*, from 1 to 3"),
        ({"components": (0, 1)}, ValueError, "components must be columns of .*, from 1 to 3"),
        ({"color": "donor"}, KeyError, "is missing"),
        ({"slot": "obsm/label_embedding"}, KeyError, "is missing"),
        ({"slot": "layers/raw"}, KeyError, "is missing"),
    ],
)
def test_wrong_arguments_are_said(after, wrong, error, message):
    with pytest.raises(error, match=message):
        before_after(after, show=False, **wrong)


def test_where_nothing_was_trained_it_is_said(before, after):
    with pytest.raises(KeyError, match=r"adata\.uns\['optimize'\] is missing"):
        before_after(before)
    adata = after.copy()
    dbx.pp.neighbors(adata, use_rep="X_pca")
    dbx.tl.umap(adata, maxiter=10)
    with pytest.raises(ValueError, match="keeps every cell in its place"):
        before_after(adata, slot="obsm/X_umap")
    adata.obsm["mine"] = adata.obsm["X_pca"].copy()
    with pytest.raises(ValueError, match="is not computed from what was trained"):
        before_after(adata, slot="obsm/mine")


def curves(ax):
    return {line.get_label(): line.get_data() for line in ax.lines}


def test_history_of_an_optimisation(after):
    drawn = history(after, "optimize", show=False)
    written = after.uns["optimize"]["history"]
    names = [ax.get_ylabel() for ax in drawn]
    assert names == ["cross-entropy (nats per cell)", "misclassification rate", "loss"]
    np.testing.assert_array_equal(curves(drawn[2])["training"][1], written["loss"])
    np.testing.assert_array_equal(curves(drawn[2])["held-out cells"][1], written["validation_loss"])
    assert drawn[0].figure.get_suptitle() == "optimize: pca, kept"
    kept = int(np.argmin(written["validation_loss"])) + 1
    assert f"kept: epoch {kept}" in curves(drawn[2])


def test_stages_are_marked(after):
    adata = after.copy()
    summary = adata.uns["optimize"]
    n = len(summary["history"]["loss"])
    summary["history"]["stage"] = np.repeat([0, 1], [10, n - 10])
    summary["trained"], summary["kept"] = np.array(["pca", "scale"], dtype=object), np.array([True, False])
    ax = history(adata, "optimize", keys="loss", show=False)
    assert [text.get_text() for text in ax.texts] == ["pca\nkept", "scale\nreverted"]
    (line,) = [x for label, (x, _) in curves(ax).items() if label not in ("training", "held-out cells")]
    assert list(line) == [10.5, 10.5]
    summary["history"]["stage"] = np.zeros(n)
    summary["trained"], summary["kept"] = np.array(["pca"], dtype=object), np.array([False])
    ax = history(adata, "optimize", keys="loss", show=False)
    assert set(curves(ax)) == {"training", "held-out cells"}  # nothing was kept
    assert ax.get_title() == "optimize: pca, reverted"


def test_no_optimisation_is_said(before):
    with pytest.raises(KeyError, match=r"adata\.uns\['optimize'\] is missing"):
        history(before, "optimize")
