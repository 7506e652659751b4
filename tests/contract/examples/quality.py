"""Examples."""

from contract.example import Example

EXAMPLES = [
    Example(
        operator="qc_metrics",
        reads={"x": "layers/counts"},
        config={"qc_vars": ("mt", "ribo"), "members": ((0, 7, 21), tuple(range(30, 45)))},
    ),
    # values without ties: the gradient of a sum of the largest is not defined where two are equal
    Example(
        operator="qc_metrics",
        title="largest",
        reads={"x": "layers/untied"},
        config={"percent_top": (3, 10), "log1p": False},
    ),
    Example(
        operator="filter_cells", reads={"x": "layers/counts"}, config={"min_genes": 38}, lacks=frozenset({"n_counts"})
    ),
    Example(
        operator="filter_cells",
        title="counts",
        reads={"x": "layers/counts"},
        config={"max_counts": 150},
        lacks=frozenset({"n_genes"}),
    ),
    Example(
        operator="filter_genes", reads={"x": "layers/counts"}, config={"min_cells": 60}, lacks=frozenset({"n_counts"})
    ),
    Example(
        operator="filter_genes",
        title="counts",
        reads={"x": "layers/counts"},
        config={"max_counts": 300},
        lacks=frozenset({"n_cells"}),
    ),
    Example(
        operator="qc_weights",
        reads={"metrics": ("obs/age", "obs/depth"), "batch": "obs/donor"},
        config={"names": ("age", "depth"), "nmads": 1.5, "log1p": ("depth",), "directions": (("age", "high"),)},
    ),
    Example(
        operator="qc_weights", title="of_all", reads={"metrics": ("obs/age",)}, config={"names": ("age",), "nmads": 1.0}
    ),
    Example(operator="sample", reads={}, config={"fraction": 0.5}),
    Example(
        operator="downsample_counts",
        reads={"x": "layers/counts"},
        config={"counts_per_cell": 60},
        random=True,
        differentiable=False,
    ),
    Example(
        operator="downsample_counts",
        title="with_replacement",
        reads={"x": "layers/counts"},
        config={"counts_per_cell": 60, "replace": True},
        random=True,
        differentiable=False,
    ),
    # the derivative of a square root at zero is infinite
    Example(operator="sqrt", reads={"x": "layers/above_zero"}),
]
