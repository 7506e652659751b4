"""``dbx.tl.annotate`` for the annotation scorer, which hands over a labelled and an unlabelled protocol."""

import anndata as ad
import numpy as np

from dbx.tl import annotate

MARKERS = 20


def celltypist(train, test, seed, **settings):
    """Labels of the test cells, of all genes, without a vote."""
    both = joined(train, test)
    annotate(both, labels_key="label", majority_voting=False, random_state=seed, **settings)
    return labels_of(both, test)


def scanvi(train, test, seed, **settings):
    """Labels of the test cells, from the genes that are variable by default; it sees the test cells unlabelled."""
    both = joined(train, test)
    annotate(both, method="scanvi", labels_key="label", batch_key="batch", random_state=seed, **settings)
    return labels_of(both, test)


def cellassign(train, test, seed, **settings):
    """Labels of the test cells, from markers of the training cells; their labels are used for nothing else."""
    test = test.copy()
    annotate(test, method="cellassign", markers=markers_of(train), random_state=seed, **settings)
    return test.obs["annotation"].astype(str).to_numpy()


def joined(train, test):
    """Both, with the labels that are known."""
    both = ad.concat([train, test], index_unique="-")
    both.obs["label"] = np.r_[train.obs["label"].astype(str), np.full(test.n_obs, "Unknown")]
    both.X = both.X.tocsr()
    return both


def labels_of(both, test):
    """What the last cells are called."""
    return both.obs["annotation"].astype(str).to_numpy()[-test.n_obs :]


def markers_of(train, n=MARKERS):
    """Genes whose mean per 10,000 counts stands out most against the next label, by label."""
    counts = train.X.toarray()
    rate = counts / counts.sum(axis=1, keepdims=True) * 1e4
    names = np.unique(train.obs["label"])
    means = np.stack([rate[train.obs["label"] == name].mean(axis=0) for name in names]) + 0.3
    others = [np.delete(means, i, axis=0).max(axis=0) for i in range(len(names))]
    return {name: list(train.var_names[np.argsort(-means[i] / others[i])[:n]]) for i, name in enumerate(names)}


run = celltypist
