"""An object with a single cell, with none or without genes: a sentence about it, and nothing written."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx

pytestmark = pytest.mark.filterwarnings(
    "ignore:zero-centering",
    "ignore:The values in .* look like raw counts",
    "ignore:There are 4 cells, fewer than n_neighbors",
)

PAIR = pd.DataFrame({"ligand": ["0"], "receptor": ["1"]})
QUICK = {"n_hidden": 8, "max_epochs": 1}
CALLS = {
    "vae_normalize": lambda a: dbx.pp.vae_normalize(a, **QUICK),
    "vae_normalize by batch": lambda a: dbx.pp.vae_normalize(a, batch_key="batch", **QUICK),
    "denoise": lambda a: dbx.pp.denoise(a, max_epochs=1),
    "foundation_model": lambda a: dbx.tl.foundation_model(a, n_layers=1, n_hidden=8, max_epochs=1),
    "solo": lambda a: dbx.pp.solo(a),
    "scrublet": lambda a: dbx.pp.scrublet(a),
    "scrublet_simulate_doublets": lambda a: dbx.pp.scrublet_simulate_doublets(a, sim_doublet_ratio=0.5),
    "scanvi": lambda a: dbx.tl.annotate(a, method="scanvi", labels_key="label"),
    "celltypist": lambda a: dbx.tl.annotate(a, labels_key="label"),
    "mmd": lambda a: dbx.tl.mmd(a, batch_key="batch", **QUICK),
    "wgan": lambda a: dbx.tl.wgan(a, batch_key="batch", **QUICK),
    "harmony": lambda a: dbx.tl.harmony(a, "batch"),
    "pca": lambda a: dbx.pp.pca(a),
    "neighbors": lambda a: dbx.pp.neighbors(a, use_rep="X_pca"),
    "magic": lambda a: dbx.pp.magic(a),
    "phate": lambda a: dbx.tl.phate(a, use_rep="X_pca"),
    "phate of genes": lambda a: dbx.tl.phate(a),
    "soft_clusters": lambda a: dbx.tl.soft_clusters(a, "label"),
    "soft_kmeans": lambda a: dbx.tl.soft_kmeans(a, 2),
    "archetypes": lambda a: dbx.tl.archetypes(a, 2),
    "spatial_domains": lambda a: dbx.tl.spatial_domains(a, 2, spatial_key="X_pca"),
    "grn": lambda a: dbx.tl.grn(a, tf_names=["0", "1"]),
    "rank_genes_groups": lambda a: dbx.tl.rank_genes_groups(a, "label"),
    "ligrec": lambda a: dbx.tl.ligrec(a, "label", resource=PAIR),
    "differential_distribution": lambda a: dbx.tl.differential_distribution(a, "label"),
    "highly_variable_genes": lambda a: dbx.pp.highly_variable_genes(a, flavor="seurat_v3", n_top_genes=3),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_one_cell(call, rng):
    adata = ad.AnnData(rng.poisson(3.0, (1, 20)).astype(np.float32), obsm={"X_pca": np.ones((1, 4), np.float32)})
    adata.obs["batch"], adata.obs["label"] = pd.Categorical(["x"]), pd.Categorical(["a"])
    with pytest.raises(ValueError, match="cell"):
        call(adata)
    assert not adata.uns
    assert list(adata.obsm) == ["X_pca"]
    assert not [name for name in adata.layers if name is not None]  # anndata 0.13 lists X under None


# --- no cell or no gene at all ---------------------------------------------------------------------------------------

OF_CELLS = {  # they read no gene
    "leiden": dbx.tl.leiden,
    "leiden of an adjacency": lambda a: dbx.tl.leiden(a, adjacency=sparse.csr_matrix((a.n_obs, a.n_obs))),
    "leiden within": lambda a: dbx.tl.leiden(a, restrict_to=("label", ["a"])),
    "lisi": lambda a: dbx.tl.lisi(a, "batch", use_rep="X_pca"),
    "umap": dbx.tl.umap,
    "diffmap": dbx.tl.diffmap,
    "dpt": dbx.tl.dpt,
    "fate_probabilities": lambda a: dbx.tl.fate_probabilities(a, "label", kernel="connectivity"),
    "pseudotime": dbx.tl.pseudotime,
    "paga": lambda a: dbx.tl.paga(a, "label"),
    "embedding_density": lambda a: dbx.tl.embedding_density(a, "pca"),
    "dendrogram": lambda a: dbx.tl.dendrogram(a, "label", use_rep="X_pca"),
    "draw_graph": lambda a: dbx.tl.draw_graph(a, "fr"),
    "tsne": lambda a: dbx.tl.tsne(a, use_rep="X_pca", perplexity=1),
    "parametric umap": lambda a: dbx.tl.umap(a, method="parametric"),
    "transfer_labels": lambda a: dbx.tl.transfer_labels(a, a, "label"),
    "harmony_integrate": lambda a: dbx.pp.harmony_integrate(a, "batch"),
    "velocity_embedding": lambda a: dbx.tl.velocity_embedding(a, "pca"),
    "terminal_states": dbx.tl.terminal_states,
    "velocity_pseudotime": dbx.tl.velocity_pseudotime,
    "ot_trajectory": lambda a: dbx.tl.ot_trajectory(a, "day"),
    "ot_fates": lambda a: dbx.tl.ot_fates(a, "label"),
    "ot_ancestors": lambda a: dbx.tl.ot_ancestors(a, a.obs["day"] == 1),
    "ot_interpolate": lambda a: dbx.tl.ot_interpolate(a, 0, 0.5, 1),
    "sequence_embedding": lambda a: dbx.tl.sequence_embedding(a, labels_key="label"),
    "ot_cell_transition": lambda a: dbx.tl.ot_cell_transition(a, 0, 1, "label"),
    **{
        name: CALLS[name]
        for name in ("harmony", "neighbors", "soft_clusters", "soft_kmeans", "archetypes", "phate", "spatial_domains")
    },
}
OF_GENES = {
    "align_slices": lambda a: dbx.tl.align_slices(a, "batch", spatial_key="X_pca"),
    "copy_number": lambda a: dbx.tl.copy_number(a, chromosome_key="velocity_genes"),
    "hmm": lambda a: dbx.tl.hmm(a, 2),
    "communication": lambda a: dbx.tl.communication(a, "label", resource=PAIR, spatial_key="X_pca"),
    **{name: getattr(dbx.pp, name) for name in ("log1p", "normalize_total", "remove_ambient", "scale", "pca")},
    "neighbors in X": lambda a: dbx.pp.neighbors(a, use_rep="X"),
    "gene_gate": lambda a: dbx.pp.gene_gate(a, 5, by=None),
    "calculate_qc_metrics": lambda a: dbx.pp.calculate_qc_metrics(a, percent_top=None, inplace=True),
    "filter_cells": lambda a: dbx.pp.filter_cells(a, min_genes=1),
    "filter_genes": lambda a: dbx.pp.filter_genes(a, min_cells=1),
    "regress_out": lambda a: dbx.pp.regress_out(a, "batch"),
    "qc_weights": lambda a: dbx.pp.qc_weights(a),
    "sqrt": dbx.pp.sqrt,
    "gene_tokens": dbx.pp.gene_tokens,
    "downsample_counts": lambda a: dbx.pp.downsample_counts(a, 2),
    "combat": lambda a: dbx.pp.combat(a, "batch"),
    "normalize_pearson_residuals": dbx.pp.normalize_pearson_residuals,
    "score_genes": lambda a: dbx.tl.score_genes(a, ["0", "1"], ctrl_size=2),
    "score_genes_cell_cycle": lambda a: dbx.tl.score_genes_cell_cycle(a, s_genes=["0"], g2m_genes=["1"]),
    "grn_activity": dbx.tl.grn_activity,
    "recipe_zheng17": dbx.pp.recipe_zheng17,
    "recipe_seurat": dbx.pp.recipe_seurat,
    "vst": dbx.tl.vst,
    "switch_de": lambda a: dbx.tl.switch_de(a, "day"),
    "moments": dbx.pp.moments,
    "recover_dynamics": dbx.tl.recover_dynamics,
    "recover_dynamics counts": lambda a: dbx.tl.recover_dynamics(a, likelihood="counts"),
    "latent_time": dbx.tl.latent_time,
    "velocity dynamical": lambda a: dbx.tl.velocity(a, mode="dynamical"),
    "velocity local": lambda a: dbx.tl.velocity(a, mode="local"),
    **{name: getattr(dbx.tl, name) for name in ("velocity", "velocity_graph", "velocity_confidence")},
    "de": lambda a: dbx.tl.de(a, "~ label"),
    "cellassign": lambda a: dbx.tl.annotate(a, method="cellassign", markers={"a": ["0"], "b": ["1"]}),
    **{name: call for name, call in CALLS.items() if name not in OF_CELLS},
}


@pytest.fixture
def cells(rng):
    graph = sparse.csr_matrix(np.ones((4, 4), np.float32) - np.eye(4, dtype=np.float32))
    adata = ad.AnnData(rng.poisson(3.0, (4, 20)).astype(np.float32), obsm={"X_pca": np.ones((4, 4), np.float32)})
    adata.obs["batch"], adata.obs["label"] = pd.Categorical([*"xyxy"]), pd.Categorical([*"abab"])
    adata.obs["day"] = [0.0, 0.0, 1.0, 1.0]
    adata.obs["sequence"] = ["ACGT", "AGGT", "ACGA", "AGGA"]
    adata.obsp["connectivities"] = adata.obsp["distances"] = graph
    adata.obsp["velocity_graph"] = adata.obsp["velocity_graph_neg"] = graph
    for name in ("spliced", "unspliced", "Ms", "Mu", "velocity", "fit_t", "fit_velocity"):
        adata.layers[name] = adata.X.copy()
    adata.var["velocity_genes"] = True
    for name in ("likelihood", "constant_likelihood", "r2", "direction", "agreement"):
        adata.var[f"fit_{name}"] = 1.0
    adata.obsm["reference_connectivities"] = graph
    adata.uns["iroot"] = 0
    edge = {"TF": ["0"], "target": ["1"], "importance": [1.0], "sign": [1]}
    adata.uns["grn"] = pd.DataFrame(edge)
    pair = {
        "source": 0.0,
        "target": 1.0,
        "n_source": 2,
        "n_target": 2,
        "scale": 1.0,
        "epsilon": 1.0,
        "descendants": 2.0,
    }
    pair |= {"n_solves": 1, "last_round": 0, "marginal_error": 0.0, "converged": True}
    adata.uns["ot"] = {"pairs": pd.DataFrame([pair]), "params": {"time_key": "day", "use_rep": "X_pca"}}
    adata.obsm["ot_potentials"] = np.zeros((4, 1))
    adata.uns["neighbors"] = {"connectivities_key": "connectivities", "distances_key": "distances", "params": {}}
    return adata


def written(adata):
    return [sorted(filter(None, getattr(adata, name))) for name in ("uns", "obs", "var", "obsm", "varm", "layers")]


def test_every_function_is_tried():
    tried = {name.split()[0] for name in (*OF_CELLS, *OF_GENES)} | {"annotate"}
    tried |= {"sample", "subsample", "ingest"}  # none of no cells; a rerun, which is tried below
    tried |= {"quantify", "summarize_to_gene"}  # of samples, with tests of their own for empty ones
    assert {*dbx.pp.__all__, *dbx.tl.__all__} <= tried


@pytest.mark.parametrize("call", {**OF_CELLS, **OF_GENES}.values(), ids={**OF_CELLS, **OF_GENES})
def test_no_cell(call, cells):
    empty = cells[:0].copy()
    before = written(empty)
    with pytest.raises(ValueError, match=r"\b0 cells|has 0\b"):
        call(empty)
    assert written(empty) == before


@pytest.mark.parametrize("call", OF_GENES.values(), ids=OF_GENES)
def test_no_gene(call, cells):
    empty = cells[:, :0].copy()
    before = written(empty)
    with pytest.raises(ValueError, match="0 (columns|genes)|no gene|None of the genes"):
        call(empty)
    assert written(empty) == before


@pytest.mark.parametrize("function", [dbx.pp.log1p, dbx.pp.normalize_total, dbx.pp.scale, dbx.pp.pca])
@pytest.mark.parametrize("shape", [(0, 5), (5, 0)])
@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix])
def test_an_empty_array(function, shape, wrap):
    with pytest.raises((ValueError, TypeError), match=rf"its shape is \({shape[0]}, {shape[1]}\)|AnnData"):
        function(wrap(np.zeros(shape, np.float32)))


def test_an_empty_modality_and_nothing_to_rerun_or_differentiate(cells):
    mdata = md.MuData({"rna": cells[:0].copy(), "prot": cells.copy()})
    with pytest.raises(ValueError, match=r"mdata\['rna'\].obsp\['connectivities'\] is empty: 0 cells"):
        dbx.tl.leiden(mdata, mod="rna")
    dbx.pp.normalize_total(cells)
    dbx.pp.log1p(cells)
    dbx.pp.pca(cells, n_comps=2)
    for empty in (cells[:0].copy(), cells[:, :0].copy()):
        with pytest.raises(ValueError, match=r"adata is empty: \d cells x \d+ genes"):
            dbx.rerun(empty, cells)
    with pytest.raises(ValueError, match="no cells"):
        dbx.sensitivity(cells[:0].copy(), "obsm/X_pca")
