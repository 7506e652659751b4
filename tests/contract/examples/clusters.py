"""Examples."""

from contract.cells import GRAPH
from contract.example import Example

EXAMPLES = [
    Example(operator="leiden", reads={"graph": GRAPH}, config={"resolution": 2.0}, random=True),
    Example(
        operator="leiden",
        title="within_groups",
        reads={"graph": GRAPH, "groups": "obs/group"},
        config={"flavor": "igraph", "n_iterations": 2, "restrict_to": ("0", "1"), "resolution": 3.0},
        random=True,
    ),
    Example(operator="soft_clusters", reads={"z": "obsm/embedding", "groups": "obs/labels"}),
    Example(
        operator="archetypes",
        reads={"z": "obsm/embedding", "x": "layers/log"},
        config={"n_archetypes": 4, "tol": 1e-5},
        lacks=frozenset({"elbow"}),
        random=True,
    ),
    Example(
        operator="archetypes",
        title="auto",
        reads={"z": "obsm/embedding", "x": "layers/log"},
        config={"n_archetypes": "auto", "tol": 1e-3},
        random=True,
    ),
    Example(operator="soft_kmeans", reads={"z": "obsm/embedding"}, config={"n_clusters": 4}, random=True),
]
