"""Examples."""

from contract.example import Example

PLACES = {"spatial": "obsm/start", "slices": "obs/batch"}
UNREAD = {"x": "positions follow from the stored maps; profiles align new slices"}
SETTINGS = {"overlap": 1.0, "n_init": 2}

EXAMPLES = [
    Example(operator="align_slices", reads={"x": "layers/counts", **PLACES}, config=SETTINGS, idle=UNREAD),
    Example(
        operator="align_slices",
        title="representation",
        reads={"x": "obsm/embedding", **PLACES},
        config={**SETTINGS, "dissimilarity": "euclidean", "overlap": "auto", "allow_unconverged": True},
        idle=UNREAD,
        random=True,
    ),
    Example(
        operator="center_slice",
        reads={"x": "layers/counts", **PLACES},
        config={**SETTINGS, "n_components": 2, "allow_unconverged": True, "max_rounds": 2},
        idle=UNREAD,
        random=True,
    ),
]
