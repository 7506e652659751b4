"""The workflow: what each step reads from the file, its call, and what it writes."""

from __future__ import annotations

from typing import NamedTuple


class Step(NamedTuple):
    """One or more calls on ``adata``, and ``new`` cells; `obs`, `var` and `uns` are always read and written."""

    call: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    score: str = ""
    """What the result is worth, an expression that is computed outside the measured time."""


RERUN = "rerun, a tenth as many new cells"
"""Not part of the sum."""
GRAPH = ("obsp/distances", "obsp/connectivities")
STEPS = {
    "normalize_total, log1p, highly_variable_genes": Step(
        "dbx.pp.normalize_total(adata, target_sum=1e4); dbx.pp.log1p(adata); "
        "dbx.pp.highly_variable_genes(adata, n_top_genes=1000)",
        ("X",),
        ("X",),
    ),
    "pca, 50 components": Step("dbx.pp.pca(adata, n_comps=50)", ("X",), ("obsm/X_pca", "varm/PCs")),
    "harmony, 3 batches": Step("dbx.tl.harmony(adata, key='batch')", ("obsm/X_pca",), ("obsm/X_pca_harmony",)),
    "neighbors": Step(
        "dbx.pp.neighbors(adata, use_rep='X_pca_harmony')",
        ("obsm/X_pca_harmony",),
        GRAPH,
        "adata.uns['neighbors']['params'].get('recall', 1.0)",
    ),
    "umap": Step("dbx.tl.umap(adata)", ("obsm/X_pca_harmony", *GRAPH), ("obsm/X_umap",)),
    "leiden": Step(
        "dbx.tl.leiden(adata, flavor='igraph', n_iterations=2, directed=False)",
        ("obsp/connectivities",),
        ("obsm/leiden_probabilities",),
        "sklearn.metrics.adjusted_rand_score(adata.obs['group'], adata.obs['leiden'])",
    ),
    "rank_genes_groups, wilcoxon, 12 groups": Step(
        "dbx.tl.rank_genes_groups(adata, 'group', method='wilcoxon')", ("X",)
    ),
    RERUN: Step(
        "dbx.rerun(new, adata)",
        ("obsm/X_pca_harmony", "obsm/X_umap", "obsm/leiden_probabilities", *GRAPH),
        (),
        "sklearn.metrics.adjusted_rand_score(new.obs['group'], new.obs['leiden'])",
    ),
}
