"""Trajectory inference with PAGA, as scanpy's tutorial, without the diffusion map that denoises the graph there.

Reads raw counts.
"""

import dbx as sc

adata = sc.read_h5ad("cells.h5ad")
adata.X = adata.X.astype("float64")
adata_raw = adata.copy()
sc.pp.recipe_zheng17(adata, n_top_genes=150)
sc.tl.pca(adata, svd_solver="arpack")
sc.pp.neighbors(adata, n_neighbors=10, n_pcs=20)
sc.tl.leiden(adata, resolution=1.0, flavor="igraph", n_iterations=2)
sc.tl.paga(adata, groups="leiden")
sc.pl.paga(adata, plot=False)
sc.tl.umap(adata, init_pos="paga")

sc.pp.log1p(adata_raw)
adata.raw = adata_raw
sc.tl.rank_genes_groups(adata, "leiden", method="wilcoxon")
