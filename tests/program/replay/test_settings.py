"""Recorded steps run again with other settings."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx
from dbx.ops.values import Codes, Frame
from dbx.program.record.registry import load
from dbx.program.replay.settings import with_settings
from dbx.program.slots.slots import Slot
from dbx.program.slots.stored import as_stored


def test_only_the_settings_named_change(analysed):
    registry = load(analysed)
    changed = with_settings(registry, {"pca": {"n_comps": np.int64(3)}}, own=True)
    assert list(changed) == ["pca"]
    step = changed["pca"]
    assert step.config == {**registry["pca"].config, "n_comps": 3}
    assert type(step.config["n_comps"]) is int
    assert step.arrays is registry["pca"].arrays
    assert registry["pca"].config["n_comps"] == 5
    assert with_settings(registry, {}, own=True) == {}


def test_wrong_settings_in_words(analysed, counts):
    before = analysed.obsm["X_pca"].copy()
    with pytest.raises(ValueError, match="'pca' has no setting 'n_pcs'; it has: n_comps"):
        dbx.rerun(analysed, config={"pca": {"n_pcs": 3}})
    with pytest.raises(KeyError, match="no step 'tsne'"):
        dbx.rerun(analysed, config={"tsne": {}})
    with pytest.raises(ValueError, match="leave `reference` out"):
        dbx.rerun(counts[:30].copy(), analysed, config={"pca": {"n_comps": 3}})
    np.testing.assert_array_equal(analysed.obsm["X_pca"], before)


def test_a_fit_that_depends_on_a_setting_is_made_anew(analysed, counts):
    """And the steps before and after it are applied as they were fitted."""
    harmony = load(analysed)["harmony"].arrays
    dbx.rerun(analysed, steps=["pca"], config={"pca": {"n_comps": 4}})
    assert analysed.obsm["X_pca"].shape == (150, 4)
    expected = counts.copy()
    dbx.pp.normalize_total(expected)
    dbx.pp.log1p(expected)
    dbx.pp.highly_variable_genes(expected, n_top_genes=80)
    dbx.pp.pca(expected, n_comps=4)
    np.testing.assert_allclose(analysed.obsm["X_pca"], expected.obsm["X_pca"], rtol=1e-4, atol=1e-4)
    assert load(analysed)["pca"].config["n_comps"] == 4
    for name, (_, array) in load(analysed)["harmony"].arrays.items():
        np.testing.assert_array_equal(array, harmony[name][1])


def test_steps_that_did_not_run_with_a_changed_one_are_stale(analysed):
    before = dbx.steps(analysed)["status"]
    assert (before == "ok").all()
    dbx.rerun(analysed, steps=["pca"], config={"pca": {"n_comps": 5}})  # as it was
    assert (dbx.steps(analysed)["status"] == "ok").all()
    dbx.rerun(analysed, steps=["pca"], config={"pca": {"n_comps": 4}})
    status = dbx.steps(analysed)["status"]
    assert set(status[["harmony", "neighbors", "leiden"]]) == {"stale"}
    assert set(status[["normalize_total", "log1p", "pca"]]) == {"ok"}
    dbx.rerun(analysed, steps=["pca"], config={"pca": {"n_comps": 5}})  # other versions all the same
    dbx.rerun(analysed, refit=True, steps=["pca", "log1p"])
    assert dbx.steps(analysed).loc["pca", "status"] == "ok"


def test_all_groups_are_those_there_are_at_the_time(analysed):
    dbx.tl.rank_genes_groups(analysed, "leiden")
    before = analysed.obs["leiden"].cat.categories
    dbx.rerun(analysed, config={"leiden": {"resolution": 3.0}})
    now = analysed.obs["leiden"].cat.categories
    assert len(now) != len(before)
    assert set(analysed.uns["rank_genes_groups"]["names"].dtype.names) == set(now)


def test_a_whole_refit_leaves_nothing_stale(analysed):
    dbx.rerun(analysed, refit=True, config={"pca": {"n_comps": 4}})
    assert (dbx.steps(analysed)["status"] == "ok").all()


def test_steps_after_a_changed_one_are_fitted_again(analysed):
    """What they learnt was of other values: neighbours among old coordinates, loadings of other genes."""
    dbx.tl.rank_genes_groups(analysed, "leiden")
    config = {"highly_variable_genes": {"n_top_genes": 60}, "pca": {"n_comps": 4}, "leiden": {"resolution": 2.0}}
    expected = dbx.rerun(analysed, refit=True, config=config, copy=True)
    dbx.rerun(analysed, config=config)
    assert analysed.var["highly_variable"].sum() == 60
    assert analysed.obsm["X_pca_harmony"].shape == (150, 4)
    for key in expected.obsm:
        np.testing.assert_allclose(analysed.obsm[key], expected.obsm[key], rtol=1e-5, atol=1e-5)
    assert (analysed.obsp["distances"] != expected.obsp["distances"]).nnz == 0
    before, now = expected.uns["rank_genes_groups"]["scores"], analysed.uns["rank_genes_groups"]["scores"]
    np.testing.assert_array_equal(now["0"], before["0"])


def test_a_copy_leaves_the_data(analysed):
    other = dbx.rerun(analysed, steps=["pca"], config={"pca": {"n_comps": 4}}, copy=True)
    assert other.obsm["X_pca"].shape == (150, 4)
    assert analysed.obsm["X_pca"].shape == (150, 5)


# --- tables of columns -----------------------------------------------------------------------------------------------


@pytest.fixture
def data():
    return ad.AnnData(np.ones((2, 3), np.float32), var=pd.DataFrame(index=["x", "y", "z"]))


def test_a_table_of_genes_is_a_frame_in_the_order_of_var(data):
    frame = Frame({"stat": np.array([1.0, 2]), "hit": np.array([True, False])})
    stored = as_stored(frame, Slot("varm", ("de",)), data, np.array(["z", "x"], object))
    assert stored.index.tolist() == ["x", "y", "z"]
    np.testing.assert_array_equal(stored["stat"], [2, np.nan, 1])
    whole = Frame({"stat": np.array([1.0, 2, 3]), "hit": np.array([True, False, True])})
    stored = as_stored(whole, Slot("varm", ("de",)), data, np.array(["z", "x", "y"], object))
    np.testing.assert_array_equal(stored["stat"], [2, 3, 1])
    assert stored["hit"].tolist() == [False, True, True]
    assert stored["hit"].dtype == bool
    below_uns = as_stored(frame, Slot("uns", ("de",)), data, np.array(["z", "x"], object))
    assert below_uns.index.tolist() == ["z", "x"]


def test_a_long_table_names_its_genes_and_texts(data):
    group = Codes(np.array([1, 0, 1], np.int32), ("T", "B"))
    frame = Frame({"group": group, "stat": np.arange(3.0)}, rows=None, gene=np.array([2, 0, 1]))
    genes = np.array(["x", "y", "z"], object)
    stored = as_stored(frame, Slot("uns", ("de",)), data, genes)
    assert list(stored.columns) == ["group", "gene", "stat"]
    assert stored["gene"].tolist() == ["z", "x", "y"]
    assert stored["group"].tolist() == ["B", "T", "B"]
    assert list(stored["group"].cat.categories) == ["T", "B"]
    plain = as_stored(Frame({"stat": np.arange(3.0)}, rows=None), Slot("uns", ("de",)), data, genes)
    assert list(plain.columns) == ["stat"]


def test_flags_of_missing_genes_are_false(data):
    frame = Frame({"stat": np.array([1.0]), "hit": np.array([True])})
    stored = as_stored(frame, Slot("varm", ("de",)), data, np.array(["y"], object))
    assert stored["hit"].tolist() == [False, True, False]
