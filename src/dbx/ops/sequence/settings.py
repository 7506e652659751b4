"""Settings that both sequence encoders have, checked."""

from __future__ import annotations

from typing import Any

from dbx.ops.checks import (
    check_above_zero,
    check_below_one,
    check_fraction,
    check_held_out,
    check_known,
    check_minimums,
    check_whole,
)

ALPHABETS = ("DNA", "RNA")
POOLINGS = ("auto", "mean", "max", "cls", "attention", "position")
LONGEST_WORD = 5


def check_settings(operator: Any) -> None:
    """Refuse settings out of their range."""
    check_known(operator.alphabet, ALPHABETS, "alphabet")
    check_known(operator.pooling, POOLINGS, "pooling")
    check_known(operator.class_weight, ("balanced", None), "class_weight")
    check_fraction(operator.mask_rate, "mask_rate")
    check_below_one(operator.dropout, "dropout")
    check_held_out(operator.validation, "validation")
    check_above_zero(operator.learning_rate, "learning_rate")
    check_minimums(operator, max_length=1, pretrain_epochs=0, max_epochs=1)
    for name, least in {"embedding_dim": 1, "n_layers": 1, "n_heads": 1, "n_hidden": 1, "ensemble": 1}.items():
        check_whole(getattr(operator, name), least, name)
    check_whole(operator.batch_size, 2, "batch_size")
    check_whole(operator.words, 0, "words")
    if operator.words > LONGEST_WORD:
        msg = f"words must be at most {LONGEST_WORD}, since there are 4^words of the longest; got {operator.words}."
        raise ValueError(msg)
