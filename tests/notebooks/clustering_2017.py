"""Preprocessing and clustering, as scanpy's first tutorial: filters, regression, scaling, PCA, Leiden, markers.

Reads raw counts.
"""

import dbx as sc

adata = sc.read_h5ad("cells.h5ad")
sc.pp.filter_cells(adata, min_genes=200)
sc.pp.filter_genes(adata, min_cells=3)
adata.var["mt"] = adata.var_names.str.startswith("MT-")
sc.pp.calculate_qc_metrics(adata, qc_vars=["mt"], percent_top=None, log1p=False, inplace=True)
adata = adata[adata.obs.pct_counts_mt < 30, :].copy()

sc.pp.normalize_total(adata, target_sum=1e4)
sc.pp.log1p(adata)
sc.pp.highly_variable_genes(adata, min_mean=0.0125, max_mean=3, min_disp=0.5)
adata.raw = adata.copy()
adata = adata[:, adata.var.highly_variable].copy()
sc.pp.regress_out(adata, ["total_counts", "pct_counts_mt"])
sc.pp.scale(adata, max_value=10)

sc.tl.pca(adata, svd_solver="arpack")
sc.pp.neighbors(adata, n_neighbors=10, n_pcs=40)
sc.tl.leiden(adata, resolution=0.3, random_state=0, flavor="igraph", n_iterations=2, directed=False)
sc.tl.paga(adata)
sc.pl.paga(adata, plot=False)
sc.tl.umap(adata, init_pos="paga")
sc.tl.umap(adata)

sc.tl.rank_genes_groups(adata, "leiden", method="t-test")
sc.tl.rank_genes_groups(adata, "leiden", method="wilcoxon")
table = sc.get.rank_genes_groups_df(adata, group="0")
new_cluster_names = [f"type {name}" for name in adata.obs["leiden"].cat.categories]
adata.rename_categories("leiden", new_cluster_names)
