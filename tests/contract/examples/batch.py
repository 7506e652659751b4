"""Examples."""

from contract.example import Example

SMALL = {"n_latent": 3, "n_hidden": 8, "max_epochs": 3}

EXAMPLES = [
    Example(operator="combat", reads={"x": "layers/log", "batch": "obs/batch"}),
    Example(
        operator="combat",
        title="covariates",
        reads={"x": "layers/log", "batch": "obs/batch", "covariates": ("obs/age", "obs/donor")},
    ),
    Example(operator="harmony", reads={"x": "obsm/embedding", "batch": ("obs/batch",)}, random=True),
    Example(
        operator="harmony",
        title="two_keys",
        reads={"x": "obsm/embedding", "batch": ("obs/batch", "obs/donor")},
        config={"dtype": "float64", "lamb": None, "flavor": "harmony1", "theta": (1.0, 2.0)},
        random=True,
    ),
    Example(operator="mmd", reads={"x": "layers/counts", "batch": "obs/batch"}, config=SMALL, random=True),
    Example(operator="wgan", reads={"x": "layers/counts", "batch": "obs/batch"}, config=SMALL, random=True),
]
