"""Integrating data using ingest: labels and embedding of a reference are taken over by other cells.

Reads raw counts of both; obs of the reference has a column ``cell_type``.
"""

import anndata

import dbx as sc

adata_ref = sc.read_h5ad("reference.h5ad")
adata = sc.read_h5ad("cells.h5ad")
var_names = adata_ref.var_names.intersection(adata.var_names)
adata_ref = adata_ref[:, var_names].copy()
adata = adata[:, var_names].copy()
for part in (adata_ref, adata):
    sc.pp.normalize_total(part, target_sum=1e4)
    sc.pp.log1p(part)

sc.pp.pca(adata_ref)
sc.pp.neighbors(adata_ref)
sc.tl.umap(adata_ref)
sc.tl.ingest(adata, adata_ref, obs="cell_type")
adata_concat = anndata.concat([adata_ref, adata], label="batch", keys=["ref", "new"])
