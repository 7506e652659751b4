"""Examples."""

from contract.example import Example

EXAMPLES = [
    Example(operator="gene_tokens", reads={"x": "layers/counts"}, config={"max_length": 20}, differentiable=False),
    Example(
        operator="gene_tokens",
        title="soft",
        reads={"x": "layers/above_zero"},
        config={"soft": True, "temperature": 3.0, "gene_factors": "mean"},
    ),
]
