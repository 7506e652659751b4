"""Steps addressed at one modality; the program is the MuData's own."""

import mudata as md
import numpy as np
import pytest

import dbx
from dbx.program import Slot, read

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:zero-centering")


@pytest.fixture
def mdata(counts):
    rna, prot = counts.copy(), counts[:, :10].copy()
    prot.var_names = [f"protein{i}" for i in range(10)]
    rna.layers["counts"] = rna.X.copy()
    return md.MuData({"rna": rna, "prot": prot})


def analyse(mdata):
    dbx.pp.normalize_total(mdata, mod="rna")
    dbx.pp.log1p(mdata, mod="rna")
    dbx.pp.highly_variable_genes(mdata, n_top_genes=80, mod="rna")
    dbx.pp.pca(mdata, n_comps=4, mod="rna")


def test_it_gives_what_the_modality_alone_gives(mdata, counts):
    before = mdata.mod["prot"].X.copy()
    analyse(mdata)
    alone = counts.copy()
    dbx.pp.normalize_total(alone)
    dbx.pp.log1p(alone)
    dbx.pp.highly_variable_genes(alone, n_top_genes=80)
    dbx.pp.pca(alone, n_comps=4)
    np.testing.assert_array_equal(mdata.mod["rna"].obsm["X_pca"], alone.obsm["X_pca"])
    assert (before != mdata.mod["prot"].X).nnz == 0


def test_the_program_of_a_modality_is_kept_with_it(mdata):
    analyse(mdata)
    assert "dbx" not in mdata.uns
    table = dbx.steps(mdata)
    assert table.loc["pca", "reads"] == "mod/rna/X (log1p), mod/rna/var/highly_variable"
    assert table.loc["pca", "writes"].startswith("mod/rna/obsm/X_pca")
    assert dbx.steps(mdata["rna"]).loc["pca", "reads"] == "X (log1p), var/highly_variable"


def test_it_travels_and_reruns(mdata, counts, tmp_path):
    analyse(mdata)
    mdata.write(tmp_path / "m.h5mu")
    again = md.read(tmp_path / "m.h5mu")
    stored = mdata.mod["rna"].obsm["X_pca"]
    again.mod["rna"].obsm["X_pca"] = np.zeros_like(stored)
    dbx.rerun(again)
    np.testing.assert_array_equal(again.mod["rna"].obsm["X_pca"], stored)
    query = md.MuData({"rna": counts[:30].copy()})
    dbx.rerun(query, mdata)
    np.testing.assert_allclose(query.mod["rna"].obsm["X_pca"], stored[:30], rtol=1e-4, atol=1e-4)


def test_a_modality_must_be_named_and_be_there(mdata, counts):
    with pytest.raises(ValueError, match="name the modality"):
        dbx.pp.normalize_total(mdata)
    with pytest.raises(KeyError, match="no modality 'atac'"):
        dbx.pp.normalize_total(mdata, mod="atac")
    with pytest.raises(ValueError, match="not a MuData"):
        dbx.pp.normalize_total(counts.copy(), mod="rna")


@pytest.mark.filterwarnings("ignore:The values in .* look like raw counts")
@pytest.mark.parametrize("frame", ["obs", "var"])
def test_a_column_of_the_whole_is_named_where_a_modality_lacks_it(mdata, frame):
    getattr(mdata, frame)["whole"] = np.arange(getattr(mdata, frame).shape[0]) % 2 == 0
    call, argument = {"obs": (dbx.pp.highly_variable_genes, "batch_key"), "var": (dbx.pp.pca, "mask_var")}[frame]
    words = rf"mdata.{frame}\['whole'\].*mdata\['rna'\].{frame}\['whole'\] = .*mdata.push_{frame}\(\)"
    with pytest.raises(KeyError, match=words):
        call(mdata, mod="rna", **{argument: "whole"})
    assert "dbx" not in mdata.uns


def test_the_advice_on_a_column_of_the_whole_works(mdata):
    mdata.obs["whole"] = np.arange(mdata.n_obs) % 2
    mdata.mod["rna"].obs["whole"] = mdata.obs["whole"].reindex(mdata.mod["rna"].obs_names)
    dbx.pp.highly_variable_genes(mdata, batch_key="whole", n_top_genes=10, flavor="cell_ranger", mod="rna")
    assert mdata.mod["rna"].var["highly_variable"].sum() == 10


def test_new_cells_in_a_mudata_need_a_reference_in_one(mdata, counts):
    alone = counts.copy()
    dbx.pp.normalize_total(alone)
    with pytest.raises(ValueError, match=r"new cells are a MuData.*mdata\['rna'\]"):
        dbx.rerun(mdata, alone)


def query_of(counts):
    rna, prot = counts[:20].copy(), counts[:20, :10].copy()
    prot.var_names = [f"protein{i}" for i in range(10)]
    return md.MuData({"rna": rna, "prot": prot})


def test_genes_spelt_otherwise_in_a_modality_are_named(mdata, counts):
    analyse(mdata)
    query = query_of(counts)
    query.mod["rna"].var_names = query.mod["rna"].var_names.str.upper()
    query.update()
    with pytest.raises(ValueError, match="case only"):
        dbx.rerun(query, mdata)


def test_an_empty_cell_of_a_modality_is_warned_of(mdata, counts):
    analyse(mdata)
    query = query_of(counts)
    x = query.mod["rna"].X.toarray()
    x[3] = 0
    query.mod["rna"].X = x
    with pytest.warns(UserWarning, match="Some cells have zero counts"):
        dbx.rerun(query, mdata)


@pytest.mark.filterwarnings("ignore:Step .* was changed outside dbx")
def test_a_change_in_a_modality_keeps_the_steps_before_it(mdata):
    dbx.pp.normalize_total(mdata, mod="rna")
    dbx.pp.log1p(mdata, mod="rna")
    mdata.mod["rna"].X = mdata.mod["rna"].X * 0.5
    dbx.pp.scale(mdata, mod="rna")
    assert list(dbx.steps(mdata).index) == ["normalize_total", "log1p", "scale"]
    assert dbx.steps(mdata).loc["scale", "status"] == "gap"


def test_a_loss_of_a_modality_that_is_not_finite_is_named(mdata):
    analyse(mdata)
    with pytest.raises(ValueError, match="not finite for .* before any training, at the mod/rna/obsm/X_pca"):
        dbx.optimize(mdata, lambda z: np.nan * z[:, 0], max_epochs=1)


MESSAGES = {
    "a column": (lambda m: dbx.tl.rank_genes_groups(m, "type", mod="rna"), r"mdata\['rna'\].obs\['type'\] is missing"),
    "its container": (lambda m: dbx.pp.highly_variable_genes(m, batch_key="b", mod="rna"), r"\(mdata\['rna'\].obs has"),
    "the call": (lambda m: dbx.tl.umap(m, mod="rna"), r"Make it with dbx.pp.neighbors\(mdata, mod='rna'\)"),
    "a key": (
        lambda m: dbx.pp.neighbors(m, use_rep="X_no", mod="rna"),
        r"not in mdata\['rna'\].obsm, which has nothing",
    ),
    "counts": (
        lambda m: dbx.pp.vae_normalize(m, mod="rna"),
        r"mdata\['rna'\].layers\['counts'\] = mdata\['rna'\].X.copy",
    ),
}


@pytest.mark.parametrize(("call", "words"), MESSAGES.values(), ids=MESSAGES)
def test_messages_name_the_modality(mdata, call, words):
    dbx.pp.normalize_total(mdata, mod="rna")
    with pytest.raises((KeyError, ValueError), match=words) as error:
        call(mdata)
    assert "adata" not in str(error.value)


def test_a_column_of_the_whole_that_is_missing(mdata):
    with pytest.raises(KeyError, match=r"mdata.obs\['type'\] is missing"):
        read(mdata, Slot.parse("obs/type"))
