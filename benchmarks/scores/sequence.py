"""``dbx.tl.sequence_embedding`` for the sequence scorer; every choice is made from the training sequences."""

import anndata as ad
import pandas as pd

from dbx import rerun
from dbx.tl import sequence_embedding


def run(train, labels, test, seed, unlabelled=(), **settings):
    """Probabilities of the classes, of the network beside the regression on words."""
    adata = frame([*train, *unlabelled])
    adata.obs["label"] = [*labels, *["Unknown"] * len(unlabelled)]
    sequence_embedding(adata, labels_key="label", random_state=seed, **settings)
    query = frame(test)
    rerun(query, adata)
    return query.obsm["sequence_probability"]


def regression(train, labels, test, seed, unlabelled=(), **settings):
    """The regression on words almost alone: the network has one epoch and the smallest size."""
    small = {"max_epochs": 1, "n_hidden": 2, "n_layers": 1, "embedding_dim": 8}
    return run(train, labels, test, seed, unlabelled, **small, **settings)


def network(train, labels, test, seed, unlabelled=(), **settings):
    """The network without the regression."""
    return run(train, labels, test, seed, unlabelled, words=0, **settings)


def probe(train, labels, test, seed, unlabelled=(), **settings):
    """Logistic regression on the embedding of a network that has never seen a label."""
    from sklearn.linear_model import LogisticRegression

    adata, query = frame([*train, *unlabelled]), frame(test)
    sequence_embedding(adata, random_state=seed, **settings)
    rerun(query, adata)
    fitted = LogisticRegression(max_iter=1000).fit(adata.obsm["X_sequence"][: len(train)], labels)
    return fitted.predict_proba(query.obsm["X_sequence"])


def frame(sequences) -> ad.AnnData:
    """Sequences as rows."""
    names = [f"sequence{i}" for i in range(len(sequences))]
    return ad.AnnData(obs=pd.DataFrame({"sequence": list(sequences)}, index=names))
