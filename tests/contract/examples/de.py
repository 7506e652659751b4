"""Examples."""

from contract.example import Example

ASKS = ({"alpha": 0.3}, {"lfc_threshold": 0.1, "alternative": "greater"})
TABLES = {"table", "fit_table"}
OF_SAMPLES = {"long_table", "samples"}
IDLE = {"coefficients": "tables of genes are made of them, nothing for cells"}

EXAMPLES = [
    Example(
        operator="nb_glm",
        reads={"counts": "layers/counts", "frame": ("obs/batch", "obs/age")},
        config={"design": "~ batch + age", "contrast": ("batch", "b", "a"), "size_factors": "poscounts"},
        lacks=frozenset({"own_size_factors", *OF_SAMPLES}),
        asks=ASKS,
        idle=IDLE,
    ),
    Example(
        operator="nb_glm",
        title="samples_of_groups",
        reads={"counts": "layers/counts", "frame": ("obs/batch",), "sample": "obs/sample", "group": "obs/group"},
        config={"design": "~ batch", "size_factors": "poscounts", "group_key": "group"},
        lacks=frozenset({"size_factors", "own_size_factors", *TABLES}),
        asks=ASKS,
    ),
    Example(
        operator="nb_glm",
        title="matrix",
        reads={"counts": "layers/counts", "matrix": "obsm/design"},
        config={"design": ("intercept", "b"), "size_factors": "iterate", "test": "lrt", "reduced": ("intercept",)},
        lacks=frozenset({"size_factors", *OF_SAMPLES}),
    ),
    Example(operator="vst", reads={"counts": "layers/counts"}, config={"size_factors": "poscounts"}),
    Example(
        operator="vst",
        title="design",
        reads={"counts": "layers/counts", "frame": ("obs/batch",)},
        config={"design": "~ batch", "size_factors": "poscounts", "fit_type": "mean"},
    ),
]
