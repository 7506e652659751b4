"""Labelled rows that are held out to judge a training."""

from __future__ import annotations

import numpy as np


def held_out_rows(
    codes: np.ndarray, fraction: float, rng: np.random.Generator, *, groups: np.ndarray | None = None, fewest: int = 1
) -> np.ndarray:
    """About a fraction of the rows of each class, at least one, in their order; whole ``groups`` where there are any.

    None, an empty array, with ``fraction=0``, or where a class has fewer than ``fewest`` rows or would keep none.
    """
    nobody = np.empty(0, int)
    if fraction == 0 or np.bincount(codes).min() < fewest:
        return nobody
    if groups is not None:
        held_out = np.flatnonzero(folds_of(groups, codes, max(round(1 / fraction), 2), rng) == 0)
    else:
        rows = (rng.permutation(np.flatnonzero(codes == code)) for code in range(codes.max() + 1))
        held_out = np.sort(np.concatenate([some[: max(round(fraction * len(some)), 1)] for some in rows]))
    kept = np.delete(codes, held_out)
    return held_out if np.bincount(kept, minlength=codes.max() + 1).all() else nobody


def folds_of(groups: np.ndarray, codes: np.ndarray, n_folds: int, rng: np.random.Generator) -> np.ndarray:
    """Fold of each row, an array of shape (n_rows,), int32: whole groups in each, of about equal size in each class.

    ``codes`` are classes, -1 for none. Where one group has most of the rows, single rows are divided instead.
    """
    if np.bincount(groups).max() > len(groups) / 2:
        groups = np.arange(len(groups))
    classes = codes - codes.min()
    sizes = np.zeros((groups.max() + 1, classes.max() + 1))
    np.add.at(sizes, (groups, classes), 1 / np.bincount(classes)[classes])
    order = rng.permutation(len(sizes))
    order = order[np.argsort(-sizes[order].sum(axis=1), kind="stable")]
    filled, fold = np.zeros((n_folds, sizes.shape[1])), np.zeros(len(sizes), np.int32)
    for group in order[sizes[order].any(axis=1)]:
        fold[group] = np.argmin((filled * (sizes[group] > 0)).sum(axis=1) + 1e-6 * filled.sum(axis=1))
        filled[fold[group]] += sizes[group]
    return fold[groups]
