"""Examples of operators on cells with positions in tissue."""

from contract.example import Example

CONFIG = {"n_domains": 3, "n_init": 2}
EMBEDDING = {"z": "obsm/embedding", "points": "obsm/spatial"}

EXAMPLES = [
    Example(operator="spatial_domains", reads=EMBEDDING, config=CONFIG, random=True),
    Example(
        operator="spatial_domains",
        title="slices",
        random=True,
        reads={"genes": "layers/log", "points": "obsm/spatial", "slices": "obs/batch"},
        config=CONFIG | {"coord_type": "delaunay", "n_rounds": 1, "cluster": "kmeans", "refine": False},
    ),
    Example(
        operator="spatial_domains_gat",
        reads={"genes": "layers/log", "points": "obsm/spatial", "slices": "obs/batch"},
        random=True,
        config=CONFIG | {"hidden": (8, 4), "heads": 2, "max_epochs": 20, "batch_size": 50, "denoised": True},
    ),
]
