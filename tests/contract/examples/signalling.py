"""Examples."""

from contract.example import Example

PAIRS = {
    "ligands": ("gene0", "gene1", "gene2_gene3"),
    "receptors": ("gene4", "gene5_gene6", "gene7"),
    "ligand_columns": ((0,), (1,), (2, 3)),
    "receptor_columns": ((4,), (5, 6), (7,)),
}

EXAMPLES = [
    Example(
        operator="ligrec",
        reads={"x": "layers/log", "labels": "obs/labels", "points": "obsm/start"},
        config={**PAIRS, "n_perms": 20},
        random=True,
    ),
    Example(
        operator="ligrec",
        title="permutations",
        reads={"x": "layers/log", "labels": "obs/labels"},
        config={**PAIRS, "n_perms": 20, "analytic": False},
        random=True,
    ),
]
