"""Examples."""

from contract.cells import GRAPH
from contract.example import Example

CELLTYPIST = {"top_genes": 20, "n_copies": 1}
SCANVI = {"n_latent": 3, "n_hidden": 8, "max_epochs": 3, "label_epochs": 2, "n_copies": 1}
PRIOR = {"model.excess_": "the prior of folds, for the fit alone"}
MARKERS = {"classes": ("a", "b"), "markers": ((0, 1, 2), (3, 4, 5)), "max_epochs": 3}

EXAMPLES = [
    Example(
        operator="celltypist",
        reads={"x": "layers/counts", "labels": "obs/labels", "graph": GRAPH},
        config={"vote": "neighbors", **CELLTYPIST},
        random=True,
    ),
    Example(
        operator="celltypist",
        title="in_clusters",
        reads={"x": "layers/counts", "labels": "obs/labels", "clusters": "obs/labels"},
        config={"vote": "clusters", **CELLTYPIST, "unlabeled": "0"},
        random=True,
    ),
    Example(
        operator="scanvi",
        reads={"x": "layers/counts", "labels": "obs/labels", "batch": "obs/batch"},
        config=SCANVI,
        random=True,
        idle={"model": "the decoder and the labels' prior are for training alone"},
    ),
    Example(operator="cellassign", reads={"x": "layers/counts"}, config=MARKERS, random=True, idle=PRIOR),
    Example(
        operator="cellassign",
        title="batches",
        reads={"x": "layers/counts", "batch": "obs/batch"},
        config={**MARKERS, "other": False},
        random=True,
        idle=PRIOR,
    ),
    Example(
        operator="label_head",
        reads={"z": "obsm/embedding", "labels": "obs/labels"},
        config={"max_epochs": 5},
        random=True,
    ),
]
