"""A MuData and its modalities see one program, whoever of them a step was called on."""

import anndata as ad
import mudata as md
import numpy as np
import pytest
import scanpy as sc

import dbx
from dbx.program.record.modalities import lifted, lowered
from dbx.program.record.registry import load

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Some cells have zero counts")

STEPS = [
    lambda data, **where: dbx.pp.normalize_total(data, **where),
    lambda data, **where: dbx.pp.log1p(data, **where),
    lambda data, **where: dbx.pp.highly_variable_genes(data, n_top_genes=80, **where),
    lambda data, **where: dbx.pp.pca(data, n_comps=4, **where),
]
WAYS = ["whole", "modality", "alternating", "other way round"]


def measured(counts):
    rna, prot = counts.copy(), counts[:, :10].copy()
    prot.var_names = [f"protein{i}" for i in range(10)]
    rna.layers["counts"], prot.layers["counts"] = rna.X.copy(), prot.X.copy()
    return md.MuData({"rna": rna, "prot": prot})


@pytest.fixture
def mdata(counts):
    return measured(counts)


def analyse(mdata, way, mod="rna"):
    for i, step in enumerate(STEPS):
        by_modality = {"whole": False, "modality": True, "alternating": i % 2 == 0, "other way round": i % 2 == 1}[way]
        step(mdata[mod]) if by_modality else step(mdata, mod=mod)


def joint(mdata):
    """An embedding of both modalities."""
    parts = [mdata[mod].obsm["X_pca"] for mod in mdata.mod]
    mdata.obsm["X_joint"] = np.concatenate(parts, axis=1)
    mdata.obs["batch"] = mdata["rna"].obs["batch"].to_numpy()


def both(mdata):
    analyse(mdata, "whole")
    dbx.pp.normalize_total(mdata["prot"])
    dbx.pp.log1p(mdata["prot"])
    dbx.pp.pca(mdata["prot"], n_comps=3)
    joint(mdata)


def on_the_whole(mdata):
    dbx.tl.harmony(mdata, "batch", basis="X_joint", adjusted_basis="X_joint_harmony")
    dbx.pp.neighbors(mdata, use_rep="X_joint_harmony", n_neighbors=10)
    dbx.tl.umap(mdata, maxiter=20)
    dbx.tl.leiden(mdata, flavor="igraph", n_iterations=2)


@pytest.mark.parametrize("way", WAYS)
def test_whichever_is_called(mdata, counts, way):
    analyse(mdata, way)
    alone = counts.copy()
    for step in STEPS:
        step(alone)
    np.testing.assert_array_equal(mdata["rna"].obsm["X_pca"], alone.obsm["X_pca"])
    whole, part = dbx.steps(mdata), dbx.steps(mdata["rna"])
    assert list(whole.index) == list(part.index) == list(dbx.steps(alone).index)
    assert set(whole["status"]) == set(part["status"]) == {"ok"}
    assert list(part["reads"]) == list(dbx.steps(alone)["reads"])
    assert whole.loc["pca", "reads"] == "mod/rna/X (log1p), mod/rna/var/highly_variable"


@pytest.mark.parametrize("way", WAYS)
def test_it_reruns_either_way(mdata, way):
    analyse(mdata, way)
    stored = mdata["rna"].obsm["X_pca"].copy()
    for data in (mdata, mdata["rna"]):
        mdata["rna"].obsm["X_pca"] = np.zeros_like(stored)
        dbx.rerun(data)
        np.testing.assert_array_equal(mdata["rna"].obsm["X_pca"], stored)


def test_a_step_again_supersedes_the_one_of_the_other_call(mdata):
    analyse(mdata, "whole")
    dbx.pp.pca(mdata["rna"], n_comps=3)
    assert list(dbx.steps(mdata).index).count("pca") == 1
    assert load(mdata)["pca"].config["n_comps"] == 3
    dbx.pp.pca(mdata, n_comps=4, mod="rna")
    assert load(mdata["rna"])["pca"].config["n_comps"] == 4


def test_what_a_matrix_holds_is_known_in_the_other_call(mdata):
    dbx.pp.normalize_total(mdata, mod="rna")
    dbx.pp.log1p(mdata["rna"])
    with pytest.raises(ValueError, match="holds log-normalised values"):
        dbx.pp.normalize_total(mdata, mod="rna")
    with pytest.raises(ValueError, match="holds log-normalised values"):
        dbx.pp.normalize_total(mdata["rna"])


def test_programs_made_apart_become_one(mdata):
    for mod in ("rna", "prot"):
        dbx.pp.normalize_total(mdata[mod])
        dbx.pp.log1p(mdata[mod])
    program = load(mdata)
    assert sorted(step.name for step in program) == ["log1p", "log1p_2", "normalize_total", "normalize_total_2"]
    assert len({step.id for step in program}) == 4
    assert [step.mod for step in program if step.name.startswith("log1p")] == ["rna", "prot"]
    dbx.pp.pca(mdata, n_comps=3, mod="prot")
    assert dbx.steps(mdata).loc["pca", "reads"] == "mod/prot/X (log1p_2)"
    assert dbx.steps(mdata["prot"]).loc["pca", "reads"] == "X (log1p_2)"
    assert list(dbx.steps(mdata["rna"]).index) == ["normalize_total", "log1p"]
    assert set(dbx.steps(mdata)["status"]) == {"ok"}


def test_steps_of_the_whole_are_kept_with_it(mdata):
    both(mdata)
    on_the_whole(mdata)
    assert {"harmony", "neighbors", "umap", "leiden"} <= set(dbx.steps(mdata).index)
    assert not {"neighbors", "umap"} & set(dbx.steps(mdata["rna"]).index)
    assert [step.name for step in lowered(load(mdata))[None]] == ["harmony", "neighbors", "umap", "leiden"]
    status = dbx.steps(mdata)["status"]
    assert status.pop("harmony") == "outside"  # no step made the joint embedding
    assert set(status) == {"ok"}


def test_a_joint_embedding_gives_what_an_anndata_of_it_gives(mdata):
    both(mdata)
    on_the_whole(mdata)
    alone = ad.AnnData(np.zeros((mdata.n_obs, 1), np.float32), obs=mdata.obs[["batch"]].copy())
    alone.obsm["X_joint"] = mdata.obsm["X_joint"].copy()
    on_the_whole(alone)
    for key in ("X_joint_harmony", "X_umap"):
        np.testing.assert_array_equal(mdata.obsm[key], alone.obsm[key])
    assert abs(mdata.obsp["connectivities"] - alone.obsp["connectivities"]).max() == 0
    assert mdata.obs["leiden"].tolist() == alone.obs["leiden"].tolist()


def test_a_joint_embedding_is_rerun_and_maps_new_cells(mdata):
    both(mdata)
    on_the_whole(mdata)
    stored = {key: mdata.obsm[key].copy() for key in ("X_joint_harmony", "X_umap")}
    dbx.rerun(mdata)
    for key, value in stored.items():
        np.testing.assert_array_equal(mdata.obsm[key], value)
    query = md.MuData({mod: part[:40].copy() for mod, part in mdata.mod.items()})
    for mod in query.mod:
        query[mod].X = query[mod].layers["counts"].copy()
        query[mod].obsm.clear()
        del query[mod].uns["dbx"]
    query.obsm["X_joint"] = mdata.obsm["X_joint"][:40]
    query.obs["batch"] = mdata.obs["batch"].to_numpy()[:40]
    with pytest.warns(UserWarning, match=r"takes .*obsm\['X_joint'\] of the new cells as it is"):
        dbx.rerun(query, mdata)
    for key, value in stored.items():
        np.testing.assert_allclose(query.obsm[key], value[:40], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(query["rna"].obsm["X_pca"], mdata["rna"].obsm["X_pca"][:40], rtol=1e-4, atol=1e-4)
    assert query.obs["leiden"].tolist() == mdata.obs["leiden"].tolist()[:40]
    assert set(dbx.steps(query)["status"]) <= {"mapped", "outside"}
    assert set(dbx.steps(query["rna"])["status"]) == {"mapped"}


def test_own_cells_of_a_mudata(mdata):
    both(mdata)
    on_the_whole(mdata)
    query = mdata[:40].copy()
    umap = query.obsm["X_umap"].copy()
    query.obsm["X_umap"] = np.zeros_like(umap)
    dbx.rerun(query, mdata)
    np.testing.assert_array_equal(query.obsm["X_umap"], umap)


def test_no_representation_is_asked_for(mdata):
    mdata.obsm["X_joint"] = np.zeros((mdata.n_obs, 2), np.float32)
    for use_rep in (None, "X"):
        with pytest.raises(ValueError, match=r"mod='rna', or a joint embedding in mdata.obsm, use_rep=.*'X_joint'"):
            dbx.pp.neighbors(mdata, use_rep=use_rep)
    with pytest.raises(KeyError, match="X_wnn"):
        dbx.pp.neighbors(mdata, use_rep="X_wnn")


def test_it_travels(mdata, tmp_path):
    both(mdata)
    on_the_whole(mdata)
    mdata.write(tmp_path / "m.h5mu")
    again = md.read(tmp_path / "m.h5mu")
    assert list(dbx.steps(again).index) == list(dbx.steps(mdata).index)
    rna = again["rna"].copy()
    rna.obsm["X_pca"] = np.zeros_like(rna.obsm["X_pca"])
    dbx.rerun(rna)
    np.testing.assert_array_equal(rna.obsm["X_pca"], mdata["rna"].obsm["X_pca"])


def test_a_program_kept_with_the_whole_by_an_earlier_dbx(mdata):
    analyse(mdata, "whole")
    program = load(mdata)
    del mdata["rna"].uns["dbx"]
    mdata.uns["dbx"] = program.to_uns("0.1")
    assert list(dbx.steps(mdata).index) == [step.name for step in program]
    dbx.pp.neighbors(mdata, n_neighbors=10, mod="rna")
    assert list(dbx.steps(mdata["rna"]).index) == [*(step.name for step in program), "neighbors"]
    assert list(dbx.steps(mdata).index) == [*(step.name for step in program), "neighbors"]


def test_a_modality_with_a_program_is_put_into_a_mudata(counts):
    rna = counts.copy()
    for step in STEPS:
        step(rna)
    mdata = md.MuData({"rna": rna, "prot": counts[:, :5].copy()})
    assert dbx.steps(mdata).loc["pca", "writes"].startswith("mod/rna/obsm/X_pca")
    dbx.pp.neighbors(mdata, n_neighbors=10, mod="rna")
    assert dbx.steps(mdata).loc["neighbors", "reads"] == "mod/rna/obsm/X_pca (pca)"


def test_a_result_of_a_modality_that_the_whole_read_and_that_was_run_again(mdata):
    both(mdata)
    dbx.pp.neighbors(mdata, use_rep="X_pca", n_neighbors=10, mod="rna")
    dbx.tl.umap(mdata, maxiter=5, mod="rna")
    dbx.pp.pca(mdata["rna"], n_comps=3)
    assert dbx.steps(mdata).loc["umap", "status"] == "stale"
    assert dbx.steps(mdata["rna"]).loc["neighbors", "status"] == "stale"


def test_lifting_and_lowering_are_inverse(mdata):
    both(mdata)
    on_the_whole(mdata)
    program = load(mdata)
    again = lifted(lowered(program))
    assert [step.facts() for step in again] == [step.facts() for step in program]
    assert [list(step.fingerprints) for step in again] == [list(step.fingerprints) for step in program]


def test_nothing_of_it_is_left_if_a_step_fails(mdata):
    analyse(mdata, "alternating")
    before = mdata["rna"].uns["dbx"]["digest"]
    with pytest.raises(ValueError, match="columns"):
        dbx.pp.neighbors(mdata, use_rep="X_pca", n_pcs=50, mod="rna")
    assert mdata["rna"].uns["dbx"]["digest"] == before
    assert "dbx" not in mdata.uns


class TestOneModalityOfTheReference:
    """New cells in one AnnData, the reference a MuData."""

    @pytest.mark.parametrize("way", WAYS)
    def test_they_are_mapped(self, mdata, counts, way):
        analyse(mdata, way)
        query = counts[:30].copy()
        dbx.rerun(query, mdata)
        np.testing.assert_allclose(query.obsm["X_pca"], mdata["rna"].obsm["X_pca"][:30], rtol=1e-4, atol=1e-4)
        assert list(dbx.steps(query)["reads"]) == list(dbx.steps(mdata["rna"])["reads"])

    def test_the_modality_is_found_by_its_genes(self, mdata, counts):
        both(mdata)
        on_the_whole(mdata)
        rna, prot = counts[:30].copy(), mdata["prot"][:30].copy()
        prot = ad.AnnData(prot.layers["counts"], obs=prot.obs[[]], var=prot.var[[]])
        with pytest.warns(UserWarning, match=r"as modality 'rna' .* left out: .*harmony, neighbors"):
            dbx.rerun(rna, mdata)
        with pytest.warns(UserWarning, match="as modality 'prot'"):
            dbx.rerun(prot, mdata)
        np.testing.assert_allclose(rna.obsm["X_pca"], mdata["rna"].obsm["X_pca"][:30], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(prot.obsm["X_pca"], mdata["prot"].obsm["X_pca"][:30], rtol=1e-4, atol=1e-4)

    def test_genes_of_none(self, mdata, counts):
        both(mdata)
        query = counts[:30].copy()
        query.var_names = [f"other{i}" for i in range(query.n_vars)]
        with pytest.raises(ValueError, match=r'MuData\(\{"rna": adata, "prot": \.\.\.\}\).*reference=mdata\[\'rna\'\]'):
            dbx.rerun(query, mdata)

    def test_a_modality_as_the_reference(self, mdata, counts):
        both(mdata)
        query = counts[:30].copy()
        dbx.rerun(query, mdata["rna"])
        np.testing.assert_allclose(query.obsm["X_pca"], mdata["rna"].obsm["X_pca"][:30], rtol=1e-4, atol=1e-4)

    def test_logarithms(self, mdata, counts):
        both(mdata)
        query = counts[:30].copy()
        query.obs_names = [f"new{i}" for i in range(30)]
        sc.pp.normalize_total(query, target_sum=float(load(mdata["rna"])["normalize_total"].arrays["depth"][1]))
        sc.pp.log1p(query)
        with pytest.warns(UserWarning, match="as modality 'rna'"):
            dbx.rerun(query, mdata, start="log1p")
        np.testing.assert_allclose(query.obsm["X_pca"], mdata["rna"].obsm["X_pca"][:30], rtol=1e-4, atol=1e-4)


class TestModalitiesOfOtherCells:
    """Modalities that do not have the same cells."""

    @pytest.fixture
    def apart(self, counts):
        prot = counts[20:110, :10].copy()
        prot.var_names = [f"protein{i}" for i in range(10)]
        mdata = md.MuData({"rna": counts.copy(), "prot": prot})
        for mod in ("rna", "prot"):
            mdata[mod].layers["counts"] = mdata[mod].X.copy()
            dbx.pp.normalize_total(mdata, mod=mod)
            dbx.pp.log1p(mdata, mod=mod)
            dbx.pp.pca(mdata, n_comps=3, mod=mod)
        return mdata

    def test_their_own_rerun(self, apart):
        stored = {mod: part.obsm["X_pca"].copy() for mod, part in apart.mod.items()}
        for part in apart.mod.values():
            part.obsm["X_pca"] = np.zeros_like(part.obsm["X_pca"])
        dbx.rerun(apart)
        for mod, value in stored.items():
            np.testing.assert_array_equal(apart[mod].obsm["X_pca"], value)

    def test_new_cells(self, apart, counts):
        prot = counts[25:40, :10].copy()
        prot.var_names = apart["prot"].var_names
        query = md.MuData({"rna": counts[:30].copy(), "prot": prot})
        dbx.rerun(query, apart)
        np.testing.assert_allclose(query["rna"].obsm["X_pca"], apart["rna"].obsm["X_pca"][:30], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(query["prot"].obsm["X_pca"], apart["prot"].obsm["X_pca"][5:20], rtol=1e-4, atol=1e-4)
        assert [step.n_cells for step in load(query)] == [30, 30, 30, 15, 15, 15]

    def test_a_modality_is_lacking(self, apart, counts):
        query = md.MuData({"rna": counts[:30].copy()})
        with pytest.raises(ValueError, match=r"lack what the program starts from: mdata\['prot'\].X, for 'norm"):
            dbx.rerun(query, apart)
        dbx.rerun(query, apart, steps=["pca"])
        np.testing.assert_allclose(query["rna"].obsm["X_pca"], apart["rna"].obsm["X_pca"][:30], rtol=1e-4, atol=1e-4)
