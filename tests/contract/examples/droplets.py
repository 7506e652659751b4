"""Examples."""

from contract.example import Example

SOLO = {"n_latent": 3, "n_hidden": 8, "max_epochs": 3, "classifier_epochs": 2, "n_draws": 2}

EXAMPLES = [
    Example(
        operator="remove_ambient",
        reads={"x": "layers/counts"},
        config={"rate": 0.1, "n_clusters": 3},
        random=True,
    ),
    Example(operator="remove_ambient", title="clusters", reads={"x": "layers/counts", "cluster": "obs/labels"}),
    Example(
        operator="scrublet",
        reads={"x": "layers/counts", "batch": "obs/batch"},
        config={"n_prin_comps": 4, "threshold": 0.2, "batched_by": "batch", "neighbor_parents": True},
        random=True,
        differentiable=False,
    ),
    Example(
        operator="scrublet",
        title="logarithms",
        reads={"x": "layers/counts"},
        config={"n_prin_comps": 4, "threshold": 0.2, "log_transform": True, "knn_dist_metric": "manhattan"},
        random=True,
        differentiable=False,
    ),
    Example(
        operator="scrublet_calibrated",
        reads={"x": "layers/counts", "batch": "obs/batch"},
        config={"n_prin_comps": 4, "n_draws": 2, "batched_by": "batch"},
        random=True,
        differentiable=False,
    ),
    Example(
        operator="solo",
        reads={"x": "layers/counts", "batch": "obs/batch"},
        config=SOLO,
        random=True,
    ),
]
