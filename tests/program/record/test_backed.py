"""Data on disk: steps read them; what cannot be written there is refused with what to type instead."""

import inspect

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx

pytestmark = pytest.mark.filterwarnings("ignore:zero-centering", "ignore:The values in .* look like raw counts")

NEED_MORE = (
    dbx.optimize,
    dbx.pp.filter_cells,
    dbx.pp.filter_genes,
    dbx.pp.gene_gate,
    dbx.pp.remove_ambient,
    dbx.pp.sample,
    dbx.pp.subsample,
    dbx.tl.annotate,
    dbx.tl.de,
    dbx.tl.differential_distribution,
    dbx.tl.ligrec,
    dbx.tl.ot_fates,
    dbx.tl.paga,
    dbx.tl.communication,
    dbx.tl.copy_number,
    dbx.tl.grn,
    dbx.tl.grn_activity,
    dbx.tl.transfer_labels,
    dbx.tl.umap,
)
"""They look at other inputs first, which these data do not have."""
COPYING = {
    f"{module.__name__}.{name}": function
    for module in (dbx.pp, dbx.tl, dbx)
    for name, function in ((name, getattr(module, name)) for name in module.__all__)
    if inspect.isfunction(function) and "copy" in inspect.signature(function).parameters and function not in NEED_MORE
}
WRITERS = {
    "pca": lambda a: dbx.pp.pca(a, n_comps=2),
    "normalize_total": lambda a: dbx.pp.normalize_total(a),
    "log1p": lambda a: dbx.pp.log1p(a),
    "scale": lambda a: dbx.pp.scale(a),
    "scale of obsm": lambda a: dbx.pp.scale(a, obsm="X_pca"),
    "highly_variable_genes": lambda a: dbx.pp.highly_variable_genes(a, n_top_genes=4),
    "neighbors": lambda a: dbx.pp.neighbors(a, use_rep="X_pca", n_neighbors=4),
    "harmony": lambda a: dbx.tl.harmony(a, "batch"),
    "rank_genes_groups": lambda a: dbx.tl.rank_genes_groups(a, "batch"),
    "vae_normalize": lambda a: dbx.pp.vae_normalize(a, n_hidden=4, max_epochs=1),
}


@pytest.fixture(params=["dense", "csr"])
def backed(request, rng, tmp_path):
    x = rng.poisson(2.0, (30, 12)).astype(np.float32)
    adata = ad.AnnData(x if request.param == "dense" else sparse.csr_matrix(x))
    adata.obs["batch"] = pd.Categorical(np.resize(["a", "b"], 30))
    adata.obsm["X_pca"] = rng.normal(size=(30, 3)).astype(np.float32)
    for name in ("Ms", "Mu", "spliced", "unspliced", "velocity", "fit_t"):
        adata.layers[name] = rng.random((30, 12)).astype(np.float32)
    adata.var["velocity_genes"] = True
    adata.var["fit_likelihood"] = adata.var["fit_constant_likelihood"] = 1.0
    graph = sparse.csr_matrix(np.ones((30, 30)) - np.eye(30))
    for name in ("connectivities", "distances", "velocity_graph", "velocity_graph_neg"):
        adata.obsp[name] = graph
    keys = {"connectivities_key": "connectivities", "distances_key": "distances"}
    adata.uns["neighbors"] = {**keys, "params": {"n_neighbors": 30, "method": "umap"}}
    adata.uns["iroot"] = 0
    adata.write(tmp_path / "cells.h5ad")
    return ad.read_h5ad(tmp_path / "cells.h5ad", backed="r")


@pytest.mark.parametrize("function", COPYING.values(), ids=COPYING)
def test_a_copy_in_memory_is_refused_and_the_two_ways_are_named(backed, function):
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    needed = {p.name: ["0"] if "gene" in p.name else "batch" for p in needed[1:] if p.kind is not p.VAR_KEYWORD}
    needed = {name: 3 if name.startswith("n_") else value for name, value in needed.items()}
    if function is dbx.pp.downsample_counts:
        needed["counts_per_cell"] = 3  # or total_counts: one of two
    with pytest.raises(NotImplementedError, match=r"copy=True is for data in memory.*to_memory\(\).*copy\(filename="):
        function(backed, **needed, copy=True)


@pytest.mark.parametrize("call", WRITERS.values(), ids=WRITERS)
def test_a_view_is_refused_before_anything_is_computed(backed, call):
    view = backed[:20]
    with pytest.raises(NotImplementedError, match=r"(a view of a file|on disk).*to_memory\(\)"):
        call(view)
    assert view.is_view
    assert "dbx" not in view.uns
    loaded = view.to_memory()
    call(loaded)
    assert "dbx" in loaded.uns


def test_a_view_can_be_read(backed):
    table = dbx.pp.highly_variable_genes(backed[:20], n_top_genes=4, inplace=False)
    loaded = dbx.pp.highly_variable_genes(backed[:20].to_memory(), n_top_genes=4, inplace=False)
    pd.testing.assert_frame_equal(table, loaded)


def test_the_program_of_a_view_is_not_rerun_into_it(backed):
    dbx.pp.pca(backed, n_comps=2)
    with pytest.raises(NotImplementedError, match="a view of a file"):
        dbx.rerun(backed[:20])


def test_a_modality_on_disk(backed, tmp_path):
    md.MuData({"rna": backed.to_memory()}).write(tmp_path / "cells.h5mu")
    mdata = md.read_h5mu(tmp_path / "cells.h5mu", backed=True)
    with pytest.raises(NotImplementedError, match="copy=True is for data in memory"):
        dbx.pp.pca(mdata, mod="rna", copy=True)
    with pytest.raises(NotImplementedError, match="open for reading"):
        dbx.pp.log1p(mdata, mod="rna")


def test_several_steps_are_refused_before_the_first(backed, monkeypatch):
    def computed(*args, **kwargs):
        raise AssertionError

    monkeypatch.setattr("dbx.ops.components.pca.PCA.fit", computed)
    with pytest.raises(NotImplementedError, match="on disk.*to_memory"):
        dbx.pp.magic(backed)
    assert "dbx" not in backed.uns
