"""Examples."""

from contract.example import Example

PLACES = ((0,), (0, 1), (1, 2), (2, 3), (3, 4), (0, 4, 5))
"""Members of the classes of each part of six transcripts."""
PARTS = [[[6 * part + place for place in places] for places in PLACES] for part in range(10)]
CLASSES = ";".join(",".join(map(str, members)) for part in PARTS for members in part)
WEIGHTS = ";".join(",".join(str(0.1 + member % 7) for member in members) for part in PARTS for members in part)
FEW_SHARED = ";".join([*CLASSES.split(";")[:5], *map(str, range(5, 60))])
"""Draws of the posterior take time for each sample and shared class."""
GENES = tuple(i // 2 for i in range(60))
OF_GENES = {"counts": "layers/counts", "tpm": "layers/above_zero", "lengths": "layers/above_zero"}
READS = {"x": "layers/above_zero", "lengths": "layers/above_zero"}
REPEATS = frozenset({"variance", "relative_variance", "bootstrap"})
EXACT = {"classes": CLASSES, "tol": 1e-13}

EXAMPLES = [
    Example(operator="summarize_to_gene", reads=OF_GENES, config={"genes": GENES}),
    Example(
        operator="summarize_to_gene",
        title="scaled",
        reads=OF_GENES,
        config={"genes": GENES, "counts_from_abundance": "length_scaled_tpm"},
    ),
    Example(operator="quantify", reads=READS, config=EXACT, lacks=REPEATS),
    Example(operator="quantify", title="weights", reads=READS, config={**EXACT, "weights": WEIGHTS}, lacks=REPEATS),
    Example(
        operator="quantify", title="vb", reads=READS, config={**EXACT, "method": "vb", "vb_prior": 1.0}, lacks=REPEATS
    ),
    Example(
        operator="quantify", title="unrolled", reads=READS, config={"classes": CLASSES, "unroll": 5}, lacks=REPEATS
    ),
    Example(operator="quantify", title="soft", reads=READS, config={**EXACT, "temperature": 2.0}, lacks=REPEATS),
    Example(
        operator="quantify",
        title="resampled",
        reads=READS,
        config={"classes": CLASSES, "n_bootstrap": 2},
        random=True,
        differentiable=False,
    ),
    Example(
        operator="quantify",
        title="posterior",
        reads=READS,
        config={"classes": FEW_SHARED, "method": "vb", "vb_prior": 1.0, "n_bootstrap": 2},
        random=True,
        differentiable=False,
    ),
]
