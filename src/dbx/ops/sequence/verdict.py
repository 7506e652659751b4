"""Whether a part of the model, or a start of its training, is kept: held-out sequences decide."""

from __future__ import annotations

import numpy as np

SURE = 1.0
"""Standard errors by which held-out sequences must be predicted better."""
LEAST_ERRORS = 0.02
"""Share of held-out sequences that are misclassified without it, at or below which nothing is kept.

Easy sequences alone would favour whatever is surer of itself.
"""


def judged(before: np.ndarray, after: np.ndarray, wrong: np.ndarray) -> np.ndarray:
    """Mean losses of held-out sequences without and with it, the error of their difference, and the share of ``wrong``.

    Parameters
    ----------
    before, after
        Loss of each held-out sequence, arrays of shape (n_held_out,).
    wrong
        Whether each is misclassified without it, an array of shape (n_held_out,), bool.

    Returns
    -------
    What :func:`is_kept` reads, an array of shape (4,).
    """
    error = (before - after).std(ddof=1) / np.sqrt(len(before)) if len(before) > 1 else np.inf
    return np.array([before.mean(), after.mean(), error, wrong.mean()], np.float32)


def is_kept(found: np.ndarray) -> bool:
    """Whether the loss is lower by more than its standard error, with enough errors before to tell."""
    before, after, error, wrong = found
    return bool(before - after > SURE * error and wrong > LEAST_ERRORS)
