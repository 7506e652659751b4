"""Examples."""

from contract.example import Example

EXAMPLES = [
    Example(operator="pca", reads={"x": "layers/log"}, config={"n_comps": 4}),
    Example(
        operator="pca",
        title="gated",
        reads={"x": "layers/log"},
        config={"n_comps": 4, "projection": "gated", "zero_center": False},
    ),
    Example(
        operator="pca",
        title="orthonormal",
        reads={"x": "layers/log"},
        config={"n_comps": 4, "projection": "orthonormal", "dtype": "float64"},
    ),
]
