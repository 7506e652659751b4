"""Examples."""

from contract.cells import GRAPH
from contract.example import Example

IN_TIME = {"graph": GRAPH, "ends": "obs/tips", "time": "obs/age"}

EXAMPLES = [
    Example(operator="diffmap", reads={"graph": GRAPH}, config={"n_comps": 6}),
    Example(
        operator="dpt",
        reads={"z": "obsm/embedding", "graph": GRAPH},
        config={"iroot": 3, "n_dcs": 5},
        infinite=frozenset({"pseudotime"}),
    ),
    Example(
        operator="dpt_branchings",
        reads={"z": "obsm/embedding", "graph": GRAPH},
        config={"iroot": 3, "n_dcs": 5},
    ),
    Example(
        operator="pseudotime",
        reads={"x": "obsm/embedding"},
        config={"iroot": 3, "knn": 9, "n_waypoints": 20},
        random=True,
    ),
    Example(operator="alpha_decay", reads={"x": "obsm/embedding"}, config={"knn": 3, "decay": 2.0, "knn_max": 9}),
    Example(operator="alpha_decay", title="all_within_reach", reads={"x": "obsm/embedding"}, config={"decay": 10.0}),
    Example(operator="phate", reads={"graph": GRAPH}, config={"n_landmark": 40}, random=True),
    Example(
        operator="phate",
        title="all_cells",
        reads={"graph": GRAPH},
        config={"n_components": 3, "n_landmark": None, "t": 4, "gamma": 0.0, "mds": "classic", "mds_dist": "cosine"},
        lacks=frozenset({"landmark"}),
    ),
    Example(operator="magic", reads={"values": "layers/log", "graph": GRAPH}),
    Example(
        operator="magic",
        title="approximate",
        reads={"values": "layers/log", "graph": GRAPH},
        config={"t": "auto", "solver": "approximate", "n_pca": 5, "columns": (3, 1, 4)},
    ),
    Example(
        operator="macrostates",
        reads={"graph": GRAPH, "time": "obs/age"},
        config={"scheme": "soft", "b": 3.0, "weight_connectivities": 0.3, "n_states": 3, "n_cells": 5},
    ),
    Example(operator="fate_probabilities", reads=IN_TIME, config={"solver": "direct"}),
    Example(
        operator="fate_probabilities",
        title="soft",
        reads=IN_TIME,
        config={"scheme": "soft", "b": 3.0, "weight_connectivities": 0.3, "solver": "direct"},
    ),
    Example(
        operator="fate_probabilities",
        title="connectivity",
        reads={"graph": GRAPH, "ends": "obs/tips"},
        config={"kernel": "connectivity", "solver": "direct"},
    ),
    Example(
        operator="fate_probabilities",
        title="given",
        reads={"graph": GRAPH, "ends": "obs/tips"},
        config={"kernel": "given", "solver": "direct"},
    ),
]
