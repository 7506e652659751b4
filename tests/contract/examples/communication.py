"""Examples of communication between cells in tissue."""

from contract.example import Example

TARGETS = tuple(range(20, 60))
CONFIG = {
    "ligands": ((0,), (1,), (2, 3)),
    "receptors": ((4,), (5,), (6, 7)),
    "pairs": ((0, 0), (1, 1), (1, 2), (2, 2)),
    "targets": TARGETS,
    "ligand_names": ("a", "b", "c_d"),
    "target_names": tuple(f"gene{i}" for i in TARGETS),
    "max_epochs": 2,
    "n_perms": 2,
}
READS = {"x": "layers/log", "groups": "obs/group", "points": "obsm/spatial"}

START = "the best epoch is the start, where heads weigh all neighbours alike"
IDLE = {"messages.attention.sender": START, "messages.attention.receiver": START, "messages.head": START}

EXAMPLES = [
    Example(operator="communication", reads=READS, config=CONFIG, random=True, idle=IDLE),
    Example(
        operator="communication",
        title="slices",
        reads={**READS, "slices": "obs/batch"},
        config=CONFIG | {"radius": 6.0},
        random=True,
        idle=IDLE,
    ),
]
