"""Whether pre-training is kept: labels are learned from both starts, and held-out sequences decide."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from flax import nnx

from dbx.ops.sequence.fitting import SURE, Labelled, on_held_out
from dbx.ops.sequence.network import SequenceNetwork

Learn = Callable[[SequenceNetwork, Labelled], dict[str, np.ndarray]]
LEAST_ERRORS = 0.02
"""Share of held-out sequences that are misclassified after the plain start, at or below which it is kept.

Easy sequences alone would favour whatever is surer of itself.
"""


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
    The network that is kept, its history, and what :func:`is_kept` reads.
    """
    histories = learn(pretrained, rows), learn(plain, rows)
    (after, _), (before, wrong) = on_held_out(pretrained, rows), on_held_out(plain, rows)
    error = (before - after).std(ddof=1) / np.sqrt(len(before)) if len(before) > 1 else np.inf
    judged = np.array([before.mean(), after.mean(), error, wrong.mean()], np.float32)
    return (pretrained, histories[0], judged) if is_kept(judged) else (plain, histories[1], judged)


def is_kept(judged: np.ndarray) -> bool:
    """Whether the pre-trained start is kept.

    ``judged`` are the mean losses of held-out sequences after the plain and the pre-trained start, the standard error
    of their difference, and the share that is misclassified after the plain start, an array of shape (4,).
    """
    plain, pretrained, error, wrong = judged
    return bool(plain - pretrained > SURE * error and wrong > LEAST_ERRORS)


def report(judged: np.ndarray) -> dict[str, Any]:
    """The verdict in words and both losses; nothing where there was no choice."""
    if not len(judged):
        return {}
    plain, pretrained, error, wrong = map(float, judged)
    return {
        "verdict": "pretrained kept" if is_kept(judged) else "reverted",
        "validation_loss": {"pretrained": pretrained, "plain": plain, "standard_error": error},
        "misclassified": wrong,
    }
