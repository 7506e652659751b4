"""Examples of hidden Markov models."""

from contract.example import Example

FEW = {"n_init": 2, "max_iter": 5, "tol": None}
ALONG = {"sequences": "obs/donor", "positions": "obs/age"}
GENES = {"chromosomes": (0,) * 20 + (1,) * 40}

EXAMPLES = [
    Example(
        operator="hmm",
        reads={"x": "layers/log", **ALONG, "labels": "obs/labels"},
        config={"n_states": 3, "min_variance": 0.5, "temperature": 20.0, **FEW},
        random=True,
    ),
    Example(
        operator="hmm",
        title="gaussian",
        reads={"z": "obsm/start", **ALONG},
        config={"n_states": 2, **FEW},
        random=True,
    ),
    Example(
        operator="hmm",
        title="categorical",
        reads={"codes": "obs/group", **ALONG},
        config={"n_states": 2, "emission": "categorical", **FEW},
        random=True,
    ),
    Example(
        operator="hmm",
        title="poisson",
        reads={"z": "obsm/few_counts", **ALONG, "sizes": "obs/size"},
        config={"n_states": 2, "emission": "poisson", **FEW},
        random=True,
    ),
    Example(
        operator="hmm",
        title="nb",
        reads={"z": "obsm/few_counts", **ALONG, "sizes": "obs/size"},
        config={"n_states": 2, "emission": "nb", **FEW},
        random=True,
    ),
    Example(
        operator="hmm_genes",
        reads={"x": "layers/log"},
        config={"n_states": 2, **GENES, "places": tuple(range(60, 0, -1)), **FEW},
        random=True,
    ),
    Example(
        operator="hmm_genes",
        title="poisson",
        reads={"x": "layers/counts", "sizes": "obs/size"},
        config={"n_states": 2, "emission": "poisson", **GENES, **FEW},
        random=True,
    ),
    Example(
        operator="hmm_genes",
        title="parameters of each row",
        reads={"x": "layers/log"},
        config={"n_states": 2, **GENES, "share": False, **FEW, "max_iter": 3},
        random=True,
        differentiable=False,
        idle=dict.fromkeys(
            ("start_logits", "transition_logits", "centre", "log_spread"), "the fit of a row starts there"
        ),
    ),
    Example(
        operator="copy_number",
        title="five states",
        reads={"x": "layers/log"},
        config={**GENES, "window": 9, "n_states": 5},
    ),
    Example(
        operator="copy_number",
        reads={"x": "layers/log", "kinds": "obs/labels"},
        config={**GENES, "reference": ("2",), "window": 9},
    ),
    Example(
        operator="copy_number",
        title="clusters",
        reads={"x": "layers/counts", "clusters": "obs/group"},
        config={**GENES, "log_transform": True, "window": 9},
        random=True,
    ),
]
