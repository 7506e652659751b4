"""Examples."""

from contract.example import Example

EXAMPLES = [
    Example(operator="neighbors", reads={"x": "obsm/embedding"}, config={"n_neighbors": 8}),
    Example(operator="neighbors", title="of_genes", reads={"x": "X"}, config={"n_neighbors": 8, "metric": "cosine"}),
    Example(
        operator="neighbors",
        title="gauss",
        reads={"x": "obsm/embedding"},
        config={"n_neighbors": 8, "method": "gauss", "n_pcs": 4},
    ),
    Example(
        operator="neighbors",
        title="jaccard",
        reads={"x": "obsm/embedding"},
        config={"n_neighbors": 8, "method": "jaccard"},
    ),
]
