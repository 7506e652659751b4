"""Batch mixing and labels together, through Harmony or a VAE: LISI before and after.

    python -m benchmarks.optimize.batches FILE BATCH LABEL [--splits 3] [--through harmony,vae]

``FILE`` has raw counts in X. Each split sets a quarter of the cells aside and maps them by ``dbx.rerun``; LISI is that
of all cells together, in brackets that of the mapped ones.
"""

from __future__ import annotations

import argparse
import warnings

import anndata as ad
import numpy as np
import scanpy as sc
from sklearn.model_selection import StratifiedShuffleSplit

import dbx
from dbx.losses import BatchMixing, CrossEntropy

KEYS = {"harmony": "X_pca_harmony", "vae": "X_vae"}


def main() -> None:
    """Print a line for each loss and split."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("file", "batch", "label"):
        parser.add_argument(name)
    parser.add_argument("--splits", type=int, default=3)
    parser.add_argument("--through", default="harmony,vae")
    asked = parser.parse_args()
    warnings.filterwarnings("ignore", category=FutureWarning)
    adata = ad.read_h5ad(asked.file)
    adata = ad.AnnData(
        adata.X.astype(np.float32),
        obs=adata.obs[[asked.batch, asked.label]].set_axis(["batch", "label"], axis=1).astype(str).astype("category"),
        var=adata.var[[]],
    )
    sc.pp.filter_genes(adata, min_cells=5)
    strata = adata.obs["batch"].astype(str) + adata.obs["label"].astype(str)
    for split in range(asked.splits):
        parts = next(StratifiedShuffleSplit(1, test_size=0.25, random_state=split).split(strata, strata))
        for through in asked.through.split(","):
            _compare(split, through, *(adata[part].copy() for part in parts))


def _compare(split: int, through: str, train, test) -> None:
    slot = f"obsm/{KEYS[through]}"
    if through == "harmony":
        dbx.pp.normalize_total(train)
        dbx.pp.log1p(train)
        dbx.pp.highly_variable_genes(train, n_top_genes=2000, batch_key="batch")
        dbx.pp.pca(train, n_comps=10)
        dbx.tl.harmony(train, key="batch")
    else:
        sc.pp.highly_variable_genes(train, n_top_genes=2000, flavor="seurat_v3")
        train = train[:, train.var["highly_variable"]].copy()
        test = test[:, train.var_names].copy()
        dbx.pp.vae_normalize(train, batch_key="batch")
    print(f"{split} {through:8} before           {_lisi(train, test, KEYS[through])}", flush=True)
    mixing, labels = BatchMixing("batch", slot=slot), CrossEntropy("label", slot=slot)
    step = "pca" if through == "harmony" else "vae_normalize"
    for name, loss in {"labels + mixing": labels + mixing, "mixing alone": mixing, "labels alone": labels}.items():
        trained = dbx.optimize(train, loss, train=step, copy=True)
        spread = trained.obsm[KEYS[through]].std() / train.obsm[KEYS[through]].std()
        kept = "kept" if trained.uns["optimize"]["kept"].any() else "reverted"
        lisi = _lisi(trained, test, KEYS[through])
        print(f"{split} {through:8} {name:16} {lisi} {kept}, spread {spread:.2f} of that before", flush=True)


def _lisi(reference, test, key: str) -> str:
    query = test.copy()
    dbx.rerun(query, reference=reference)
    z = np.concatenate([reference.obsm[key], query.obsm[key]])
    cells = ad.AnnData(z, obsm={"z": z})
    for name in ("batch", "label"):
        cells.obs[name] = np.r_[reference.obs[name].astype(str), query.obs[name].astype(str)]
    lisi = dbx.tl.lisi(cells, ["batch", "label"], use_rep="z", inplace=False)
    every, mapped = lisi.mean(), lisi.iloc[reference.n_obs :].mean()
    return " ".join(f"{what} {every.iloc[i]:.3f} ({mapped.iloc[i]:.3f})" for i, what in enumerate(("iLISI", "cLISI")))


if __name__ == "__main__":
    main()
