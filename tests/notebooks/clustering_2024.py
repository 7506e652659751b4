"""Preprocessing and clustering, as scanpy's present tutorial: metrics, genes by sample, several resolutions, markers.

Reads raw counts, whose obs has a column ``sample``.
"""

import dbx as sc

adata = sc.read_h5ad("cells.h5ad")
adata.var["mt"] = adata.var_names.str.startswith("MT-")
adata.var["ribo"] = adata.var_names.str.startswith(("RPS", "RPL"))
adata.var["hb"] = adata.var_names.str.contains("^HB[^(P)]")
sc.pp.calculate_qc_metrics(adata, qc_vars=["mt", "ribo", "hb"], inplace=True, log1p=True)
sc.pp.filter_cells(adata, min_genes=100)
sc.pp.filter_genes(adata, min_cells=3)

adata.layers["counts"] = adata.X.copy()
sc.pp.normalize_total(adata)
sc.pp.log1p(adata)
sc.pp.highly_variable_genes(adata, n_top_genes=2000, batch_key="sample")
sc.tl.pca(adata)
sc.pp.neighbors(adata)
sc.tl.umap(adata)
sc.tl.leiden(adata, flavor="igraph", n_iterations=2)
for res in [0.02, 0.5, 2.0]:
    sc.tl.leiden(adata, key_added=f"leiden_res_{res:4.2f}", resolution=res, flavor="igraph", n_iterations=2)
adata.obs["cell_type_lvl1"] = adata.obs["leiden_res_0.02"].astype(str).map("type {}".format)
sc.tl.rank_genes_groups(adata, groupby="leiden_res_0.50", method="wilcoxon")
table = sc.get.rank_genes_groups_df(adata, group="0").head(5)
