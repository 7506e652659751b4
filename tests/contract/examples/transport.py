"""Examples."""

from contract.example import Example

POINTS = {"z": "obsm/embedding", "time": "obs/group"}
NO_LATER = frozenset({"potentials", "growth_rates"})

EXAMPLES = [
    Example(operator="ot_trajectory", reads=POINTS, config={"epsilon": 0.2}, infinite=NO_LATER),
    Example(
        operator="ot_trajectory",
        title="growth",
        reads={**POINTS, "growth": "obs/depth"},
        config={"epsilon": 0.2, "growth_iters": 2, "growth_weight": 2.0, "time_pairs": ((0.0, 2.0), (1.0, 2.0))},
        infinite=NO_LATER,
    ),
    Example(operator="marker_growth", reads={"proliferation": "obs/first", "apoptosis": "obs/last"}),
    Example(
        operator="ot_low_rank",
        reads={**POINTS, "growth": "obs/depth"},
        config={"epsilon": 0.2, "rank": 3, "threshold": 1e-10},
        random=True,
        infinite=frozenset({"factors", "growth_rates"}),
    ),
    Example(
        operator="ot_fates",
        reads={"z": "obsm/embedding", "potentials": "obsm/embedding", "time": "obs/group", "groups": "obs/donor"},
        config={"pairs": ((0.0, 1.0, 10.0, 0), (1.0, 2.0, 20.0, 1))},
        infinite=frozenset({"fates"}),
    ),
]
