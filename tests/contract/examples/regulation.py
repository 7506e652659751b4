"""Examples."""

from contract.example import Example

REGULATORS = {"regulators": (0, 1, 2, 3)}
ONE_SEED = frozenset({"jaccard"})

EDGES = {"regulators": (0, 0, 1, 2), "targets": (1, 5, 5, 7), "signs": (1, -1, 1, 1)}

EXAMPLES = [
    Example(
        operator="grn",
        reads={"x": "layers/log"},
        config={**REGULATORS, "targets": (0, 4, 5), "n_estimators": 4, "n_seeds": 2, "n_perms": 1},
        random=True,
    ),
    Example(
        operator="grn",
        title="boosted",
        reads={"x": "layers/log"},
        config={**REGULATORS, "targets": (0, 4, 5), "ensemble": "boosted", "n_estimators": 30},
        lacks=ONE_SEED,
        random=True,
    ),
    Example(
        operator="grn",
        title="correlation",
        reads={"x": "layers/log", "groups": "obs/labels"},
        config={**REGULATORS, "method": "correlation", "n_perms": 1, "top": 20},
        lacks=ONE_SEED,
        random=True,
    ),
    Example(
        operator="grn",
        title="partial",
        reads={"x": "layers/log"},
        config={**REGULATORS, "method": "partial", "n_seeds": 2},
        random=True,
    ),
    Example(
        operator="grn",
        title="gatv2",
        reads={"x": "layers/log"},
        config={**REGULATORS, "method": "gatv2"},
        lacks=ONE_SEED,
        random=True,
    ),
    Example(operator="grn_activity", reads={"x": "layers/log"}, config=EDGES),
    Example(
        operator="grn_activity",
        title="rank",
        reads={"x": "layers/log"},
        config={**EDGES, "method": "rank", "top": 0.3},
        differentiable=False,
    ),
]
