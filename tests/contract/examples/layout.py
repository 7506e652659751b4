"""Examples."""

from contract.cells import GRAPH
from contract.example import Example

EXAMPLES = [
    Example(
        operator="umap",
        reads={"graph": GRAPH, "x": "obsm/embedding"},
        config={"n_epochs": 20},
        random=True,
        idle={"x": "it only places the parts of a graph that is not connected"},
    ),
    Example(
        operator="umap",
        title="from_a_start",
        reads={"graph": GRAPH, "init": "obsm/start"},
        config={"n_epochs": 20, "start": "given", "negative_sample_rate": 2},
        random=True,
    ),
    Example(
        operator="parametric_umap",
        reads={"x": "obsm/embedding", "graph": GRAPH, "init": "obsm/start"},
        config={"n_epochs": 20, "n_hidden": 8, "n_layers": 1, "max_epochs": 2, "start": "given", "n_dims": 5},
        random=True,
    ),
]
