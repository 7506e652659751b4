"""The cells of the large experiment, and how coordinates are judged."""

from __future__ import annotations

import anndata as ad
import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

import dbx

SETTINGS = {
    "nested": (8, 48),
    "de_location": (0.5, 1.2, 0.3),
    "de_probability": (0.1, 0.3, 0.1),
    "batch_scale": 0.2,
    "library_size": 600,
}
"""59 types in 48 families in 8 lineages; types of one family differ in a tenth of the genes, and by little."""


def cells(n_cells: int, seed: int, n_genes: int = 2000, n_types: int = 59, **settings) -> ad.AnnData:
    """Counts (CSR) of nested types in three batches, with their names in ``obs["label"]``."""
    drawn = dbx.datasets.simulate(n_cells, n_genes, n_types, 3, seed=seed, **(settings or SETTINGS))
    labels = drawn.obs["group"].astype(str).astype(object)
    return ad.AnnData(drawn.X, obs=labels.rename("label").to_frame(), var=drawn.var[[]])


def split(adata: ad.AnnData, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and a quarter of each type to judge by."""
    rows = np.arange(adata.n_obs)
    return train_test_split(rows, test_size=0.25, random_state=seed, stratify=adata.obs["label"])


def prepared(train: ad.AnnData) -> ad.AnnData:
    """Normalised to the median total, logged, standardised and cut at 10."""
    train = train.copy()
    dbx.pp.normalize_total(train, target_sum=float(np.median(np.asarray(train.X.sum(axis=1)))))
    dbx.pp.log1p(train)
    dbx.pp.scale(train, max_value=10)
    return train


def macro_f1(z_train, y_train, z_test, y_test, *, penalty: float = 1.0) -> float:
    """Of a logistic regression on standardised coordinates, in points."""
    mean, spread = z_train.mean(axis=0), z_train.std(axis=0) + 1e-8
    model = LogisticRegression(C=penalty, max_iter=1000).fit((z_train - mean) / spread, y_train)
    return 100 * float(f1_score(y_test, model.predict((z_test - mean) / spread), average="macro"))
