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
    Example(operator="score_genes", reads={"x": "layers/log"}, config={"members": (0, 2), "controls": (1, 5, 7)}),
    Example(
        operator="score_genes_cell_cycle",
        reads={"x": "layers/log"},
        config={"s_genes": (0, 2), "s_controls": (1, 5, 7), "g2m_genes": (3, 4), "g2m_controls": (1, 6)},
    ),
    Example(
        operator="label_head",
        reads={"z": "obsm/embedding", "labels": "obs/labels"},
        config={"max_epochs": 5},
        random=True,
    ),
]
