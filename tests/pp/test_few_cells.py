"""An object with a single cell, as a view that came out too small: a sentence about cells, and nothing written."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx

QUICK = {"n_hidden": 8, "max_epochs": 1}
CALLS = {
    "vae_normalize": lambda a: dbx.pp.vae_normalize(a, **QUICK),
    "vae_normalize by batch": lambda a: dbx.pp.vae_normalize(a, batch_key="batch", **QUICK),
    "denoise": lambda a: dbx.pp.denoise(a, max_epochs=1),
    "solo": lambda a: dbx.pp.solo(a),
    "scanvi": lambda a: dbx.tl.annotate(a, method="scanvi", labels_key="label"),
    "celltypist": lambda a: dbx.tl.annotate(a, labels_key="label"),
    "mmd": lambda a: dbx.tl.mmd(a, batch_key="batch", **QUICK),
    "wgan": lambda a: dbx.tl.wgan(a, batch_key="batch", **QUICK),
    "harmony": lambda a: dbx.tl.harmony(a, "batch"),
    "pca": lambda a: dbx.pp.pca(a),
    "neighbors": lambda a: dbx.pp.neighbors(a, use_rep="X_pca"),
    "soft_clusters": lambda a: dbx.tl.soft_clusters(a, "label"),
    "rank_genes_groups": lambda a: dbx.tl.rank_genes_groups(a, "label"),
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
