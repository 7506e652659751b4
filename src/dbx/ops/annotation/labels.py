"""Labels of annotators: which cells have one, and labels from probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from dbx.ops.values import Codes

UNASSIGNED = "Unassigned"
"""The label of a cell whose confidence is too low."""


def unlabeled_levels(levels: Sequence[str], unlabeled: Any) -> np.ndarray:
    """Which levels are those of cells without a label, an array of shape (n_levels,), bool.

    ``unlabeled`` is a level's text or its original value: 0, -1 and False are found in columns of integers, floats
    (``"-1.0"``) and booleans. None and NaN stand for missing values only.
    """
    exact = np.array([level == str(unlabeled) for level in levels], dtype=bool)
    if unlabeled is None or unlabeled != unlabeled:
        return np.zeros(len(levels), dtype=bool)
    number = _as_number(str(unlabeled))
    if exact.any() or number is None:
        return exact
    return np.array([_as_number(level) == number for level in levels], dtype=bool)


def _as_number(text: str) -> float | None:
    if text in ("True", "False"):
        return float(text == "True")
    try:
        return None if "_" in text else float(text)
    except ValueError:
        return None


def known_labels(labels: Codes, unlabeled: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """(codes of the labels, -1 for a cell without one; the labels).

    Raises
    ------
    ValueError
        No cell has a label, all have the same, or one is "Unassigned".
    """
    levels, codes = np.array(labels.levels, dtype=object), np.asarray(labels.codes)
    counts = np.bincount(codes[codes >= 0], minlength=len(levels))
    kept = np.flatnonzero(~unlabeled_levels(labels.levels, unlabeled) & (counts > 0))
    classes = tuple(levels[kept])
    if not classes:
        msg = f"No cell has a label, all are {unlabeled!r} or missing: label some cells of each type first."
        raise ValueError(msg)
    if len(classes) == 1:
        msg = (
            f"All labelled cells are {classes[0]!r}, but two labels or more are needed. Label cells of another type, "
            f"and pass the value of cells without a label; got unlabeled={unlabeled!r}."
        )
        raise ValueError(msg)
    if UNASSIGNED in classes:
        msg = f"{UNASSIGNED!r} is reserved for unsure cells: rename this label, or pass unlabeled={UNASSIGNED!r}."
        raise ValueError(msg)
    number = np.full(len(levels) + 1, -1, np.int32)
    number[kept] = np.arange(len(kept))
    return number[codes], classes


def sample_labelled(codes: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of labelled cells, at most a given number of each label, in their order."""
    of_each = [rng.permutation(np.flatnonzero(codes == code))[:most] for code in range(codes.max() + 1)]
    return np.sort(np.concatenate(of_each))


def conclusion(shares, classes: tuple[str, ...], min_confidence: float) -> dict[str, Any]:
    """Labels, "Unassigned" where the largest probability is too small, and that probability as confidence."""
    confidence = shares.max(axis=1)
    best = jnp.where(confidence >= min_confidence, shares.argmax(axis=1), len(classes))
    return {"labels": Codes(best.astype(jnp.int32), (*classes, UNASSIGNED)), "confidence": confidence}
