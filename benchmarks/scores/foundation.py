"""``dbx.tl.foundation_model`` for the scorer of foundation models, and what it is compared with there."""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import dbx

SMALL = {"n_layers": 1, "n_hidden": 64, "n_induced": 8, "likelihood": "poisson"}
"""Low capacity, as suits some hundred to a few thousand cells."""
SETTINGS = SMALL
FILES = tempfile.TemporaryDirectory()


def run(mode, train, test, seed, mask=None, least=1, **settings):
    """The scorer's interface: expected counts, embeddings, or labels of ``test``.

    With fewer labelled cells of a class than ``least`` all labels are "Unknown", without a fit.
    """
    if _few(mode, train, least):
        return np.full(test.n_obs, "Unknown")
    settings = {**SETTINGS, "random_state": seed, **settings}
    if train.obs["batch"].nunique() > 1:
        settings.setdefault("batch_key", "batch")
    if mode == "impute":
        train.layers["hidden"], test.layers["hidden"] = sp.csr_matrix(train.shape), sp.csr_matrix(mask.astype("f4"))
        dbx.tl.foundation_model(train, expected=True, mask="hidden", **settings)
    elif mode == "classify":
        weights = _pretrained(train, settings)
        dbx.tl.foundation_model(train, labels_key="label", weights=weights, pretrain=False, **settings)
    else:
        dbx.tl.foundation_model(train, **settings)
    dbx.rerun(test, train)
    if mode == "impute":
        return test.layers["foundation_expected"]
    if mode == "classify":
        return test.obs["foundation_label"].to_numpy()
    return train.obsm["X_foundation"], test.obsm["X_foundation"]


def _few(mode, train, least):
    """Whether a class has fewer labelled cells."""
    return mode == "classify" and train.obs["label"].value_counts().drop("Unknown", errors="ignore").min() < least


def _pretrained(train, settings):
    """File of a network trained on these cells without labels, which all draws of labels share."""
    about = json.dumps(settings, sort_keys=True).encode()
    name = hashlib.sha256(about + train.X.data.tobytes() + train.X.indices.tobytes()).hexdigest()
    path = Path(FILES.name) / name
    if not path.exists():
        dbx.tl.foundation_model(train.copy(), save_weights=path, **settings)
    return path


def vae(mode, train, test, seed, mask=None, **settings):
    """``dbx.pp.vae_normalize``: hidden genes as counts of zero, the total scaled to what is shown."""
    if train.obs["batch"].nunique() > 1:
        settings["batch_key"] = "batch"
    dbx.pp.vae_normalize(train, random_state=seed, target_sum=1, adapt_epochs=0, **settings)
    dbx.rerun(test, train)
    if mode == "embed":
        return train.obsm["X_vae"], test.obsm["X_vae"]
    share = np.asarray(test.layers["vae_normalized"], np.float64)
    return share * np.asarray(test.X.sum(axis=1)) / np.maximum((share * ~mask).sum(axis=1, keepdims=True), 0.1)


def scanvi(mode, train, test, seed, mask=None, least=1, **settings):
    """``dbx.tl.annotate(method="scanvi")``."""
    if _few(mode, train, least):
        return np.full(test.n_obs, "Unknown")
    dbx.tl.annotate(train, method="scanvi", labels_key="label", min_confidence=0, random_state=seed, **settings)
    dbx.rerun(test, train)
    return test.obs["annotation"].astype(str).to_numpy()


def _log(data):
    counts = data.X.toarray()
    return np.log1p(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) * 1e4)


def pca(mode, train, test, seed, mask=None):
    """Twenty principal components of log counts."""
    axes = PCA(20, random_state=seed).fit(_log(train))
    return axes.transform(_log(train)), axes.transform(_log(test))


def genes(mode, train, test, seed, mask=None):
    """All genes, or logistic regression on them."""
    if mode == "embed":
        return _log(train), _log(test)
    scaler = StandardScaler().fit(_log(train))
    labelled = train.obs["label"].to_numpy() != "Unknown"
    model = LogisticRegression(max_iter=500).fit(
        scaler.transform(_log(train))[labelled], train.obs["label"][labelled].astype(str)
    )
    return model.predict(scaler.transform(_log(test)))
