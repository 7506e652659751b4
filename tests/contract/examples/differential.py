"""Examples."""

from contract.example import Example

READS = {"x": "layers/log", "labels": "obs/labels"}
FRACTIONS = {"pts", "pts_rest"}

EXAMPLES = [
    Example(operator="rank_genes_groups", reads=READS, config={"fractions": True}),
    Example(
        operator="rank_genes_groups",
        title="wilcoxon",
        reads=READS,
        config={"method": "wilcoxon", "reference": "1", "n_genes": 10},
        lacks=frozenset(FRACTIONS),
    ),
    Example(
        operator="rank_genes_groups",
        title="logreg",
        reads=READS,
        config={"method": "logreg", "options": '{"max_iter": 1000}'},  # as many until it converges
        lacks=frozenset(FRACTIONS | {"logfoldchanges", "pvals", "pvals_adj"}),
    ),
]
