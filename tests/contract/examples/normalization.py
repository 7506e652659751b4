"""Examples."""

from contract.example import Example

EXAMPLES = [
    Example(operator="normalize_total", reads={"x": "layers/counts"}),
    Example(
        operator="normalize_total",
        title="without_high_genes",
        reads={"x": "layers/counts"},
        config={"target_sum": 100.0, "exclude_highly_expressed": True, "max_fraction": 0.1},
    ),
    Example(operator="log1p", reads={"x": "layers/counts"}),
    Example(operator="log1p", title="base_2", reads={"x": "layers/counts"}, config={"base": 2.0}),
    Example(operator="normalize_pearson_residuals", reads={"x": "layers/counts"}),
    Example(
        operator="normalize_pearson_residuals",
        title="poisson",
        reads={"x": "layers/counts"},
        config={"theta": None, "clip": 2.0, "dtype": "float64"},
    ),
    Example(operator="regress_out", reads={"x": "layers/log", "keys": ("obs/age", "obs/depth")}),
    Example(operator="regress_out", title="category", reads={"x": "layers/log", "keys": ("obs/donor",)}),
    Example(
        operator="regress_out",
        title="float64",
        reads={"x": "layers/log", "keys": ("obs/age",)},
        config={"dtype": "float64"},
    ),
    Example(operator="scale", reads={"x": "layers/log"}),
    Example(
        operator="scale",
        title="of_some_cells",
        reads={"x": "layers/log", "mask": ("obs/chosen",)},
        config={"max_value": 1.5},
    ),
    Example(operator="scale", title="not_centred", reads={"x": "layers/log"}, config={"zero_center": False}),
]
