"""Examples."""

from contract.example import Example

ORDER = (*range(0, 60, 2), *range(1, 60, 2))
SURROGATE = frozenset({"scores"})

EXAMPLES = [
    Example(operator="highly_variable_genes", reads={"x": "layers/log"}, config={"n_top_genes": 20}),
    Example(
        operator="highly_variable_genes",
        title="batches",
        reads={"x": "layers/log", "batch": "obs/batch"},
        config={"flavor": "cell_ranger"},
    ),
    Example(
        operator="highly_variable_genes_v3",
        reads={"x": "layers/counts"},
        config={"n_top_genes": 20, "span": 0.7},
    ),
    Example(
        operator="highly_variable_genes_v3",
        title="batches",
        reads={"x": "layers/counts", "batch": "obs/batch"},
        config={"n_top_genes": 20, "span": 0.9, "flavor": "seurat_v3_paper"},
    ),
    Example(operator="highly_variable_genes_residuals", reads={"x": "layers/counts"}, config={"n_top_genes": 20}),
    Example(
        operator="highly_variable_genes_residuals",
        title="batches",
        reads={"x": "layers/counts", "batch": "obs/batch"},
        config={"n_top_genes": 20, "theta": None, "clip": 3.0},
    ),
    Example(
        operator="gene_gate",
        reads={"x": "layers/log"},
        config={"n_genes": 20, "order": ORDER},
        surrogates=SURROGATE,
    ),
    Example(
        operator="gene_gate",
        title="l0",
        reads={"x": "layers/log"},
        config={"n_genes": 20, "method": "l0"},
        surrogates=SURROGATE,
    ),
]
