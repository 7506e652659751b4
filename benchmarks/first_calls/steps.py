"""The calls: cells to start from, the call in dbx, and in scanpy."""

from __future__ import annotations

LEIDEN = "flavor='igraph', n_iterations=2, directed=False"
HARMONYPY = "harmonypy.run_harmony(adata.obsm['X_pca'], adata.obs, 'batch', verbose=False)"
MARKERS = "{g: list(adata.var_names[10 * i : 10 * i + 10]) for i, g in enumerate(adata.obs['group'].cat.categories)}"
STEPS: dict[str, tuple[str, str] | tuple[str, str, str]] = {
    "pp.calculate_qc_metrics": ("counts", "tool.pp.calculate_qc_metrics(adata, inplace=True)"),
    "pp.filter_cells": ("counts", "tool.pp.filter_cells(adata, min_genes=50)"),
    "pp.filter_genes": ("counts", "tool.pp.filter_genes(adata, min_cells=3)"),
    "pp.qc_weights": ("counts", "dbx.pp.qc_weights(adata, metrics=['total_counts', 'n_genes_by_counts'])"),
    "pp.subsample": ("counts", "tool.pp.subsample(adata, fraction=.5)"),
    "pp.scrublet": ("counts", "tool.pp.scrublet(adata)"),
    "pp.normalize_total": ("counts", "tool.pp.normalize_total(adata, target_sum=1e4)"),
    "pp.log1p": ("counts", "tool.pp.log1p(adata)"),
    "pp.sqrt": ("counts", "tool.pp.sqrt(adata)"),
    "pp.highly_variable_genes": ("log", "tool.pp.highly_variable_genes(adata, n_top_genes=1000)"),
    "pp.highly_variable_genes, seurat_v3": (
        "counts",
        "tool.pp.highly_variable_genes(adata, n_top_genes=1000, flavor='seurat_v3')",
    ),
    "pp.gene_gate": ("log", "dbx.pp.gene_gate(adata, 200)"),
    "pp.regress_out": ("log", "tool.pp.regress_out(adata, ['total_counts'])"),
    "pp.scale": ("log", "tool.pp.scale(adata, max_value=10)"),
    "pp.combat": ("log", "tool.pp.combat(adata, key='batch')"),
    "pp.pca": ("log", "tool.pp.pca(adata, n_comps=50)"),
    "pp.recipe_zheng17": ("counts", "tool.pp.recipe_zheng17(adata, n_top_genes=1000)"),
    "pp.recipe_seurat": ("counts", "tool.pp.recipe_seurat(adata)"),
    "pp.normalize_pearson_residuals": (
        "counts",
        "dbx.pp.normalize_pearson_residuals(adata)",
        "sc.experimental.pp.normalize_pearson_residuals(adata)",
    ),
    "experimental.pp.highly_variable_genes": (
        "counts",
        "tool.experimental.pp.highly_variable_genes(adata, n_top_genes=1000)",
    ),
    "experimental.pp.normalize_pearson_residuals_pca": (
        "counts",
        "tool.experimental.pp.normalize_pearson_residuals_pca(adata)",
    ),
    "experimental.pp.recipe_pearson_residuals": ("counts", "tool.experimental.pp.recipe_pearson_residuals(adata)"),
    "pp.neighbors": ("log", "tool.pp.neighbors(adata, use_rep='X_pca')"),
    "pp.harmony_integrate": ("log", "dbx.pp.harmony_integrate(adata, 'batch')", HARMONYPY),
    "tl.harmony": ("log", "dbx.tl.harmony(adata, key='batch')", HARMONYPY),
    "tl.umap": ("log", "tool.tl.umap(adata)"),
    "tl.umap, parametric": ("log", "dbx.tl.umap(adata, method='parametric', max_epochs=2)"),
    "tl.diffmap": ("log", "tool.tl.diffmap(adata)"),
    "tl.leiden": ("log", f"tool.tl.leiden(adata, {LEIDEN})"),
    "tl.soft_clusters": ("log", "dbx.tl.soft_clusters(adata, 'group')"),
    "tl.paga": ("log", "tool.tl.paga(adata, 'group')"),
    "tl.dendrogram": ("log", "tool.tl.dendrogram(adata, 'group')"),
    "tl.embedding_density": ("log", "tool.tl.embedding_density(adata, 'umap', groupby='group')"),
    "tl.lisi": ("log", "dbx.tl.lisi(adata, 'batch')"),
    "tl.ingest": ("log", "dbx.tl.ingest(new, mapped, obs='group')"),
    "tl.transfer_labels": ("log", "dbx.tl.transfer_labels(placed, mapped, 'group')"),
    "tl.score_genes": ("log", "tool.tl.score_genes(adata, adata.var_names[:40])"),
    "tl.score_genes_cell_cycle": (
        "log",
        "tool.tl.score_genes_cell_cycle(adata, s_genes=adata.var_names[:40], g2m_genes=adata.var_names[40:90])",
    ),
    "tl.rank_genes_groups, t-test": ("log", "tool.tl.rank_genes_groups(adata, 'group', method='t-test')"),
    "tl.rank_genes_groups, wilcoxon": ("log", "tool.tl.rank_genes_groups(adata, 'group', method='wilcoxon')"),
    "tl.de, pseudobulk": ("counts", "dbx.tl.de(adata, '~ condition', sample_key='sample')"),
    "tl.de, pseudobulk, apeglm": ("counts", "dbx.tl.de(adata, '~ condition', sample_key='sample', shrink='apeglm')"),
    "tl.de, pseudobulk, likelihood ratio": (
        "counts",
        "dbx.tl.de(adata, '~ condition', sample_key='sample', test='lrt', reduced='~ 1')",
    ),
    "tl.de, each of 8 groups": ("counts", "dbx.tl.de(adata, '~ condition', sample_key='sample', group_key='group')"),
    "tl.vst": ("counts", "dbx.tl.vst(adata, size_factors='poscounts')"),
    "tl.annotate, celltypist": ("counts", "dbx.tl.annotate(adata, labels_key='known', majority_voting=False)"),
    "tl.annotate, scanvi": (
        "counts",
        "dbx.tl.annotate(adata, method='scanvi', labels_key='known', max_epochs=2, label_epochs=2)",
    ),
    "tl.annotate, cellassign": (
        "counts",
        f"dbx.tl.annotate(adata, method='cellassign', markers={MARKERS}, max_epochs=2)",
    ),
    "pp.vae_normalize": ("counts", "dbx.pp.vae_normalize(adata, batch_key='batch', max_epochs=2)"),
    "pp.denoise": ("counts", "dbx.pp.denoise(adata[:, :500].copy(), max_epochs=2)"),
    "pp.solo": ("counts", "dbx.pp.solo(adata, max_epochs=2, classifier_epochs=2)"),
    "pp.remove_ambient": ("counts", "dbx.pp.remove_ambient(adata)"),
    "tl.mmd": ("counts", "dbx.tl.mmd(adata, batch_key='batch', max_epochs=2)"),
    "tl.wgan": ("counts", "dbx.tl.wgan(adata, batch_key='batch', max_epochs=2)"),
    "rerun": ("counts", "dbx.rerun(new, mapped)"),
    "optimize": ("log", "dbx.optimize(mapped, dbx.losses.CrossEntropy('group'), max_epochs=2)"),
}
"""The cells, the call in dbx, and in scanpy: the same with ``tool``, none with ``dbx``."""
