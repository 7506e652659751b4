"""Examples."""

from contract.example import Example

SMALL = {"n_layers": 1, "n_hidden": 8, "n_heads": 2, "n_induced": 2, "max_epochs": 2}

# soft ranks as values call the host, so that nothing of them is kept compiled; they are an example of gene_tokens
EXAMPLES = [
    Example(
        operator="foundation_model",
        reads={"x": "layers/counts", "labels": "obs/labels", "batch": "obs/batch", "mask": "layers/hidden"},
        config={**SMALL, "expected": True, "labelled": True, "freeze_encoder": True},
        random=True,
        idle={"model.network.batch_shift": "batches are for the pre-training", "model.log_theta": "of the likelihood"},
    ),
    Example(
        operator="foundation_model",
        title="bins",
        reads={"x": "layers/above_zero"},
        config={**SMALL, "values": "bins", "objective": "rank", "attention": "full"},
        random=True,
        idle={"model": "the heads are for the pre-training"},
    ),
]
