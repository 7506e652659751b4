"""Examples of functions of scanpy's as steps."""

from contract.cells import GRAPH
from contract.example import Example

EXAMPLES = [
    Example(
        operator="scanpy_function",
        title="paga",
        reads={"obsp.distances": GRAPH, "obs.donor": "obs/donor"},
        config={
            "function": "tl.paga",
            "settings": '{"groups": "donor"}',
            "reads": ("obsp/distances", "obs/donor"),
            "writes": ("uns/paga/connectivities", "uns/paga/groups", "uns/donor_sizes"),
            "uns": '{"neighbors": {"distances_key": "distances", "params": {"n_neighbors": 8}}}',
        },
    ),
    Example(
        operator="scanpy_function",
        title="density",
        reads={"obsm.X_pca": "obsm/embedding", "obs.batch": "obs/batch"},
        config={
            "function": "tl.embedding_density",
            "settings": '{"basis": "pca", "groupby": "batch"}',
            "reads": ("obsm/X_pca", "obs/batch"),
            "writes": ("obs/pca_density_batch", "uns/pca_density_batch_params"),
        },
    ),
    Example(
        operator="scanpy_function",
        title="dendrogram",
        reads={"X": "layers/log", "obs.donor": "obs/donor"},
        config={
            "function": "tl.dendrogram",
            "settings": '{"groupby": ["donor"], "use_rep": "X"}',
            "reads": ("X", "obs/donor"),
            "writes": ("uns/dendrogram_donor",),
        },
    ),
    Example(
        operator="scanpy_function",
        title="force-directed layout",
        reads={"obsp.connectivities": GRAPH},
        config={
            "function": "tl.draw_graph",
            "settings": '{"layout": "fr"}',
            "reads": ("obsp/connectivities",),
            "writes": ("obsm/X_draw_graph_fr", "uns/draw_graph"),
            "uns": '{"neighbors": {"connectivities_key": "connectivities"}}',
        },
    ),
]
