"""Examples."""

from contract.example import Example

READS = {"x": "layers/log", "labels": "obs/batch"}

EXAMPLES = [
    Example(
        operator="differential_distribution",
        reads={**READS, "x": "layers/above_zero"},  # a zero that becomes a value has no derivative
        config={"max_components": 2},
        random=True,
    ),
    Example(
        operator="differential_distribution",
        title="permutations",
        reads={**READS, "batch": "obs/donor"},
        config={"test": "wasserstein", "p_value": "permutation", "n_perms": 100, "max_components": 0},
        random=True,
    ),
]
