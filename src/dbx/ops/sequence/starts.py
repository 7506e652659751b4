"""Whether pre-training is kept: labels are learned from both starts, and held-out sequences decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from dbx.ops.sequence.fitting import Labelled, on_held_out
from dbx.ops.sequence.network import SequenceNetwork
from dbx.ops.sequence.verdict import is_kept, judged

Learn = Callable[[SequenceNetwork, Labelled], dict[str, np.ndarray]]


def copy_of(network: SequenceNetwork) -> SequenceNetwork:
    """A network of its own with the same parameters."""
    graphdef, state = nnx.split(network)
    return nnx.merge(graphdef, jax.tree.map(np.array, state))


def learn_from_both(
    pretrained: SequenceNetwork, plain: SequenceNetwork, rows: Labelled, learn: Learn
) -> tuple[SequenceNetwork, dict[str, np.ndarray], np.ndarray]:
    """Learn labels from a pre-trained and from a plain start, with the same draws, in place.

    Returns
    -------
    The network that is kept, its history, and what :func:`report` reads.
    """
    histories = learn(pretrained, rows), learn(plain, rows)
    (after, _), (before, wrong) = on_held_out(pretrained, rows), on_held_out(plain, rows)
    found = judged(before, after, wrong)
    return (pretrained, histories[0], found) if is_kept(found) else (plain, histories[1], found)


def report(found: np.ndarray) -> dict[str, Any]:
    """The verdict in words and both losses; nothing where there was no choice."""
    if not len(found):
        return {}
    plain, pretrained, error, wrong = map(float, found)
    return {
        "verdict": "pretrained kept" if is_kept(found) else "reverted",
        "validation_loss": {"pretrained": pretrained, "plain": plain, "standard_error": error},
        "misclassified": wrong,
    }
