"""Examples."""

from contract.example import Example

ALONG = {"pseudotime": ("obs/age",)}
IDLE = {"x": "the curves depend on pseudotime alone"}

EXAMPLES = [
    Example(
        operator="switch_de",
        reads={"x": "layers/counts", **ALONG, "covariates": ("obs/batch",)},
        config={"likelihood": "nb", "n_starts": 2, "calibrate": "permutation", "n_perms": 2},
        random=True,
        idle=IDLE,
    ),
    Example(
        operator="switch_de",
        title="extra_zeros",
        reads={"x": "layers/counts", **ALONG, "sizes": ("obs/depth",)},
        config={"likelihood": "zinb", "n_starts": 1, "alternative_curve": None, "calibrate": None},
        idle=IDLE,
    ),
    Example(
        operator="switch_de",
        title="log",
        reads={"x": "layers/log", **ALONG},
        config={"likelihood": "gaussian", "n_starts": 2},
        random=True,
        idle=IDLE,
    ),
]
