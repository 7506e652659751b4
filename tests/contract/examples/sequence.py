"""Examples of encoders of sequences."""

from contract.example import Example

SMALL = {"embedding_dim": 8, "n_hidden": 8, "batch_size": 64, "words": 2}
HEAD = "the head for hidden bases, which only pre-training uses"
UNUSED = {"network.unmask": HEAD}
LACKS = frozenset({"labels", "probabilities"})

EXAMPLES = [
    Example(
        operator="sequence_embedding",
        reads={"text": "obs/sequence", "labels": "obs/labels"},
        config={**SMALL, "max_epochs": 2, "ensemble": 2, "validation": 0.0},
        idle=UNUSED,
        random=True,
    ),
    Example(
        operator="sequence_embedding",
        title="hidden bases",
        reads={"x": "obsm/one_hot"},
        config={**SMALL, "pretrain_epochs": 1, "reverse_complement": True},
        idle=UNUSED,
        random=True,
        lacks=LACKS,
    ),
    Example(
        operator="sequence_transformer",
        reads={"x": "obsm/one_hot", "labels": "obs/labels"},
        config={
            **SMALL,
            "words": 0,
            "n_heads": 2,
            "n_layers": 1,
            "max_epochs": 2,
            "positions": "rotary",
            "validation": 0,
        },
        idle=UNUSED,
        random=True,
    ),
    Example(
        operator="sequence_transformer",
        title="words of bases",
        reads={"text": "obs/sequence"},
        config={**SMALL, "n_heads": 2, "n_layers": 1, "pretrain_epochs": 1, "tokens": "kmer", "k": 2, "pooling": "cls"},
        idle={**UNUSED, "network.encoder.tokens.hidden": HEAD},
        random=True,
        lacks=LACKS,
    ),
]
