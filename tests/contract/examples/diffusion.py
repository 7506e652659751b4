"""Examples."""

from contract.cells import GRAPH
from contract.example import Example

EXAMPLES = [
    Example(operator="diffmap", reads={"graph": GRAPH}, config={"n_comps": 6}),
    Example(
        operator="dpt",
        reads={"z": "obsm/embedding", "graph": GRAPH},
        config={"iroot": 3, "n_dcs": 5},
        infinite=frozenset({"pseudotime"}),
    ),
    Example(
        operator="pseudotime",
        reads={"x": "obsm/embedding"},
        config={"iroot": 3, "knn": 9, "n_waypoints": 20},
        random=True,
    ),
]
