"""Examples."""

from contract.example import Example

SMALL = {"n_hidden": 8, "max_epochs": 3}

EXAMPLES = [
    Example(operator="vae_normalize", reads={"x": "layers/counts"}, config={"n_latent": 3, **SMALL}, random=True),
    Example(
        operator="vae_normalize",
        title="batches",
        reads={
            "x": "layers/counts",
            "batch": "obs/batch",
            "categories": ("obs/donor", "obs/group"),
            "numbers": ("obs/age",),
        },
        config={
            "n_latent": 3,
            **SMALL,
            "likelihood": "nb",
            "dispersion": "gene-batch",
            "encode_batch": True,
            "adapt_epochs": 3,
        },
        random=True,
    ),
    Example(
        operator="denoise",
        reads={"x": "layers/counts"},
        config={"n_units": 8, "n_latents": 2, "max_epochs": 3},
        random=True,
    ),
]
