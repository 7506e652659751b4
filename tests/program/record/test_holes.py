"""What came from outside the program: its status, one warning with the cure, and how far new cells can go."""

import warnings
from operator import attrgetter

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import dbx
from dbx.pp._makers import NAMES, TRACES
from dbx.program.record.holes import reach
from dbx.program.record.registry import load
from dbx.program.wrappers import call_that_makes


@pytest.fixture(scope="module")
def _logged(counts):
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    return adata


@pytest.fixture
def logged(_logged):
    return _logged.copy()


def pca(adata):
    sc.pp.pca(adata, n_comps=5)


def neighbours(adata):
    dbx.pp.pca(adata, n_comps=5)
    sc.pp.neighbors(adata, n_neighbors=10)


def mine(adata):
    adata.obsm["X_mine"] = np.random.default_rng(0).normal(size=(adata.n_obs, 4)).astype(np.float32)


def layer(adata):
    adata.layers["mine"] = np.sqrt(adata.X.toarray())


def raw(adata):
    changed = adata.copy()
    changed.X = changed.X * 3
    adata.raw = changed


def sparse_embedding(adata):
    adata.obsm["X_mine"] = sparse.random(adata.n_obs, 4, 0.8, format="csr", random_state=0, dtype=np.float32)


def of_neighbours(adata, **settings):
    dbx.pp.neighbors(adata, n_neighbors=10, **settings)


# what makes the hole, what reads it, the slot in words, who made it, the cure
HOLES = {
    "pca of scanpy": (pca, of_neighbours, r"adata\.obsm\['X_pca'\].*scanpy\.pp\.pca did.*Call dbx\.pp\.pca\(adata\)"),
    "neighbours of scanpy": (
        neighbours,
        lambda a: dbx.tl.leiden(a, flavor="igraph", n_iterations=2),
        r"adata\.obsp\['connectivities'\].*scanpy\.pp\.neighbors did.*Call dbx\.pp\.neighbors\(adata\)",
    ),
    "an embedding": (
        mine,
        lambda a: of_neighbours(a, use_rep="X_mine"),
        r"adata\.obsm\['X_mine'\], which no recorded step wrote: .*dbx\.adopt\(adata\).*dbx\.step\(adata",
    ),
    "a sparse embedding": (sparse_embedding, lambda a: dbx.pp.scale(a, obsm="X_mine", zero_center=False), "X_mine"),
    "a layer": (layer, lambda a: dbx.pp.pca(a, n_comps=5, layer="mine"), r"adata\.layers\['mine'\], which no recorded"),
    "raw": (
        raw,
        lambda a: dbx.tl.score_genes(a, list(a.var_names[:5]), use_raw=True),
        r"adata\.raw\.X, which no recorded step wrote",
    ),
}


@pytest.mark.parametrize(("make", "use", "words"), HOLES.values(), ids=HOLES)
def test_a_value_from_outside_has_a_status_and_one_warning(logged, make, use, words):
    make(logged)
    with pytest.warns(UserWarning, match=words) as caught:
        use(logged)
    assert len([w for w in caught if "no recorded step wrote" in str(w.message)]) == 1
    assert caught[0].filename == __file__
    table = dbx.steps(logged)
    assert table["status"].iloc[-1] == "outside"
    assert "from outside" in table["reads"].iloc[-1]
    assert set(table["status"].iloc[:2]) == {"ok"}


def test_what_dbx_lacks_has_the_call_that_records_it(logged, counts):
    logged.obsm["X_trimap"] = np.random.default_rng(0).normal(size=(logged.n_obs, 2))
    cure = (
        r"dbx has no external\.tl\.trimap: .*dbx\.step\(adata, \(fit, apply\), reads=\{\.\.\.\}, "
        r"writes='obsm/X_trimap', name='trimap'\); without it they stop before 'neighbors'\.$"
    )
    with pytest.warns(UserWarning, match=cure):
        of_neighbours(logged, use_rep="X_trimap")
    assert "dbx has no external.tl.trimap" in dbx.steps(logged).note
    with pytest.raises(ValueError, match=r"dbx has no external\.tl\.trimap: .*dbx\.step\(reference, "):
        dbx.rerun(counts[:20].copy(), logged)


def test_every_maker_that_is_named_has_a_call_or_is_lacking():
    for name in {*(maker for found in TRACES.values() for maker in found.values()), *NAMES.values()}:
        namespace, _, function = name.removeprefix("scanpy.").rpartition(".")
        if name.startswith("scanpy."):
            slots = [slot for slot, found in TRACES.items() if name in found.values()]
            slots += [slot for slot, maker in NAMES.items() if maker == name]
            call = call_that_makes(name) or all(map(call_that_makes, slots))
            assert call or not has(dbx, f"{namespace}.{function}"), name


def has(module, path):
    try:
        attrgetter(path)(module)
    except AttributeError:
        return False
    return True


def of_scanpys_neighbours(adata):
    neighbours(adata)
    dbx.tl.leiden(adata, flavor="igraph", n_iterations=2)
    adata.obsm["X_umap"] = adata.obsm["X_pca"][:, :2].copy()


CONCLUSIONS = {
    "rank_genes_groups": (raw, lambda a: dbx.tl.rank_genes_groups(a, "group", use_raw=True)),
    "paga": (of_scanpys_neighbours, lambda a: dbx.tl.paga(a, "leiden")),
    "embedding_density": (of_scanpys_neighbours, dbx.tl.embedding_density),
    "dendrogram": (mine, lambda a: dbx.tl.dendrogram(a, "group", use_rep="X_mine")),
    "tsne": (mine, lambda a: dbx.tl.tsne(a, use_rep="X_mine", perplexity=3)),
    "draw_graph": (of_scanpys_neighbours, lambda a: dbx.tl.draw_graph(a, "fr")),
    "highly_variable_genes": (layer, lambda a: dbx.pp.highly_variable_genes(a, layer="mine", n_top_genes=20)),
}


@pytest.mark.parametrize("name", CONCLUSIONS)
def test_a_conclusion_is_not_said_to_be_missing_for_new_cells(logged, name, capsys):
    make, use = CONCLUSIONS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        make(logged)
    with warnings.catch_warnings(), dbx.settings.override(verbosity="info"):
        warnings.simplefilter("error", UserWarning)
        use(logged)
    assert "It is not repeated for new cells, which do without these values." in capsys.readouterr().err
    assert dbx.steps(logged).loc[name, "status"] == "outside"
    assert name not in dbx.steps(logged).note


def test_x_changed_by_something_else_is_warned_of(logged):
    sc.pp.scale(logged)
    with pytest.warns(
        UserWarning,
        match=r"changed outside dbx after 'log1p' and before 'pca' read it \(scanpy\.pp\.scale\?\)",
    ):
        dbx.pp.pca(logged, n_comps=5)
    assert dbx.steps(logged).loc["pca", "status"] == "gap"


def counts_in_a_layer(adata):
    dbx.pp.vae_normalize(adata, layer="counts", max_epochs=1, n_latent=2)


def log_values_first(adata):
    adata = ad.AnnData(adata.X.copy(), obs=adata.obs, var=adata.var)
    dbx.pp.pca(adata, n_comps=5)


def raw_of_log_values_first(adata):
    adata = ad.AnnData(adata.X.copy(), obs=adata.obs, var=adata.var)
    adata.raw = adata
    dbx.tl.rank_genes_groups(adata, "group", use_raw=True)


def raw_after_log_values_were_read(adata):
    adata = ad.AnnData(adata.X.copy(), obs=adata.obs, var=adata.var)
    adata.raw = adata
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="zero-centering")
        dbx.pp.scale(adata)
    dbx.tl.rank_genes_groups(adata, "group", use_raw=True)


def a_table_of_measurements(adata):
    table = pd.DataFrame(np.random.default_rng(0).normal(size=(adata.n_obs, 4)), index=adata.obs_names)
    adata.obsm["protein"] = table.rename(columns=str)
    dbx.pp.scale(adata, obsm="protein")


def places_in_a_section(adata):
    adata.obsm["spatial"] = np.random.default_rng(0).normal(size=(adata.n_obs, 2))
    dbx.pp.scale(adata, obsm="spatial")


def a_copy(adata):
    adata.layers["log"] = adata.X.copy()
    dbx.pp.pca(adata, n_comps=5, layer="log")


def a_column(adata):
    adata.obs["mine"] = np.arange(adata.n_obs) % 3
    adata.obs["mine"] = adata.obs["mine"].astype("category")
    dbx.tl.rank_genes_groups(adata, "mine")


def not_recorded(adata):
    mine(adata)
    dbx.pp.scale(adata.obsm["X_mine"])


NO_HOLES = [
    *(counts_in_a_layer, log_values_first, raw_of_log_values_first, raw_after_log_values_were_read),
    *(a_table_of_measurements, places_in_a_section, a_copy, a_column, not_recorded),
]


@pytest.mark.parametrize("use", NO_HOLES)
def test_counts_measurements_copies_and_the_start_are_not_holes(logged, use):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        use(logged)
    assert set(dbx.steps(logged)["status"]) == {"ok"}
    assert reach(load(logged)).startswith("New cells can go through all steps")


def test_what_follows_a_hole_is_ok_itself(logged):
    pca(logged)
    with pytest.warns(UserWarning, match="X_pca"):
        of_neighbours(logged)
    dbx.tl.leiden(logged, flavor="igraph", n_iterations=2)
    assert dbx.steps(logged)["status"].tolist() == ["ok", "ok", "outside", "ok"]


def test_the_status_is_kept_in_a_file(logged, tmp_path):
    pca(logged)
    with pytest.warns(UserWarning, match="X_pca"):
        of_neighbours(logged)
    logged.write(tmp_path / "cells.h5ad")
    back = ad.read_h5ad(tmp_path / "cells.h5ad")
    assert dbx.steps(back).loc["neighbors", "status"] == "outside"
    assert reach(load(back)) == reach(load(logged))


def test_a_failed_call_leaves_everything_as_it_was(logged):
    mine(logged)
    digest = logged.uns["dbx"]["digest"]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        with pytest.raises(UserWarning, match="X_mine"):
            of_neighbours(logged, use_rep="X_mine")
    assert logged.uns["dbx"]["digest"] == digest
    assert "connectivities" not in logged.obsp


def test_the_cure_names_the_modality(logged):
    pca(logged)
    del logged.uns["dbx"]
    mdata = mudata.MuData({"rna": logged})
    with pytest.warns(UserWarning, match=r"mdata\['rna'\]\.obsm\['X_pca'\].*dbx\.pp\.pca\(mdata, mod='rna'\)"):
        dbx.pp.neighbors(mdata, n_neighbors=10, mod="rna")


def test_new_cells_can_go_to_the_end(analysed):
    assert reach(load(analysed)) == "New cells can go through all steps, up to 'umap'."


def test_new_cells_stop_at_a_hole(logged):
    pca(logged)
    with pytest.warns(UserWarning, match="X_pca"):
        of_neighbours(logged)
    dbx.tl.leiden(logged, flavor="igraph", n_iterations=2)
    said = reach(load(logged))
    assert said.startswith("New cells can go up to 'log1p', not through 'neighbors' (nor 'leiden'): 'neighbors' reads ")
    assert "adata.obsm['X_pca'], which no recorded step wrote (by its traces scanpy.pp.pca did)" in said
    assert "Call dbx.pp.pca(adata) instead" in said


def test_new_cells_stop_at_a_change_and_go_on_beside_it(logged):
    dbx.pp.pca(logged, n_comps=5)
    logged.X = logged.X * 0.5
    with pytest.warns(UserWarning, match="changed outside dbx after 'log1p'"):
        dbx.pp.scale(logged, zero_center=False)
    said = reach(load(logged))
    assert said.startswith(
        "New cells can go up to 'pca', not through 'scale': 'scale' reads adata.X, which was changed"
    )


def test_new_cells_cannot_go_anywhere(logged):
    del logged.uns["dbx"]
    mine(logged)
    assert reach(load(logged)) == ""
    with pytest.warns(UserWarning, match="X_mine"):
        of_neighbours(logged, use_rep="X_mine")
    assert reach(load(logged)).startswith("New cells cannot go through any step: 'neighbors' reads")


def test_new_cells_stop_at_a_stale_step(logged):
    dbx.pp.pca(logged, n_comps=5)
    of_neighbours(logged)
    dbx.pp.pca(logged, n_comps=4)
    assert "not through 'neighbors': 'neighbors' is stale" in reach(load(logged))


def test_the_figure_explains_the_colour(logged):
    mine(logged)
    with pytest.warns(UserWarning, match="X_mine"):
        of_neighbours(logged, use_rep="X_mine")
    ax = dbx.pl.program(logged, show=False)
    assert "input computed outside dbx" in [text.get_text() for text in ax.texts]


def _changed_before_the_first_writer(counts, *, keep):
    """Metrics and filters of counts, which scanpy normalises before a step of dbx writes X."""
    adata = counts.copy()
    if keep:
        adata.layers["counts"] = adata.X.copy()
    dbx.pp.calculate_qc_metrics(adata, percent_top=None, inplace=True)
    dbx.pp.filter_genes(adata, min_cells=3)
    sc.pp.normalize_total(adata, target_sum=1e4)
    with pytest.warns(dbx.DbxWarning, match=r"adata\.X, which was changed outside dbx after 'filter_genes' and before"):
        dbx.pp.log1p(adata)
    return adata


def test_what_changed_counts_that_only_filters_read_is_a_gap(counts):
    adata = _changed_before_the_first_writer(counts, keep=False)
    table = dbx.steps(adata).to_frame()
    assert table["status"].to_dict() == {"calculate_qc_metrics": "ok", "filter_genes": "ok", "log1p": "gap"}
    assert "not through 'log1p'" in dbx.steps(adata).note
    query = counts[:20].copy()
    with pytest.raises(ValueError, match=r"Step 'log1p' reads reference\.X, which was changed .* dbx\.adopt"):
        dbx.rerun(query, adata)
    assert not query.uns.get("dbx")
    with pytest.warns(dbx.DbxWarning, match="Run: calculate_qc_metrics"):
        dbx.rerun(query, adata, partial=True)
    np.testing.assert_allclose(query.obs["total_counts"], np.asarray(counts[:20].X.sum(axis=1)).ravel(), rtol=1e-6)


def test_what_changed_counts_that_only_filters_read_is_adopted(counts):
    adata = _changed_before_the_first_writer(counts, keep=True)
    dbx.adopt(adata)
    assert list(dbx.steps(adata).index) == ["calculate_qc_metrics", "filter_genes", "normalize_total", "log1p"]
    assert set(dbx.steps(adata)["status"]) == {"ok"}
    query = counts[:20, adata.var_names].copy()
    with pytest.warns(dbx.DbxWarning, match="The other steps run without them"):
        dbx.rerun(query, adata)
    np.testing.assert_allclose(query.X.toarray(), adata[:20].X.toarray(), rtol=1e-5)


def test_corrected_counts_and_subsets_are_no_gap(counts):
    adata = counts.copy()
    dbx.pp.calculate_qc_metrics(adata, percent_top=None, inplace=True)
    adata = adata[5:, 3:].copy()
    adata.X = adata.X * 2
    with warnings.catch_warnings():
        warnings.simplefilter("error", dbx.DbxWarning)
        dbx.pp.normalize_total(adata)
    assert set(dbx.steps(adata)["status"]) == {"ok"}


def test_coordinates_of_scvi_tools_have_a_cure(logged):
    logged.obsm["X_scVI"] = np.random.default_rng(0).normal(size=(logged.n_obs, 4)).astype(np.float32)
    match = (
        r"\(by its traces scvi-tools did\).* Call dbx\.pp\.vae_normalize\(adata, layer='counts', key_added='X_scVI'\)"
    )
    with pytest.warns(dbx.DbxWarning, match=match):
        dbx.pp.neighbors(logged, use_rep="X_scVI")
