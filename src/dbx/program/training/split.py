"""Which cells an optimisation holds out: those that judge it, and the others of their groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dbx.program.training.dataset import Dataset

MIN_CELLS = 5
"""Fewest cells that can judge anything."""


@dataclass(frozen=True)
class Split:
    """Rows of the dataset."""

    judging: np.ndarray
    hidden: np.ndarray
    """Rows that are not trained on: the judging ones, and the others of their groups."""


def make_split(dataset: Dataset, groups: np.ndarray | None, share: float, rng: np.random.Generator) -> Split:
    """Hold out a share of the rows that have every label, or whole groups.

    Raises
    ------
    ValueError
        There are too few cells, groups or labels for that.
    """
    known = [labels.known[dataset.rows] for labels in dataset.labels.values()]
    there = [codes >= 0 for codes in known] + [mask[dataset.rows] for mask in dataset.known.values()]
    rows = np.flatnonzero(np.all(there, axis=0)) if there else np.arange(len(dataset.rows))
    if groups is None:
        judging = hidden = np.sort(rng.permutation(rows)[: round(share * len(rows))])
    else:
        levels = held_out_groups(groups[rows], share, rng)
        hidden = np.flatnonzero(np.isin(groups, levels))
        judging = np.intersect1d(rows, hidden)
    for codes in known:  # a label that no trained cell has cannot be predicted
        judging = judging[np.isin(codes[judging], np.delete(codes, hidden))]
    if len(judging) < MIN_CELLS or len(rows) - len(judging) < MIN_CELLS:
        msg = (
            f"{len(judging)} of {len(rows)} cells would be held out to judge by and {len(rows) - len(judging)} trained "
            f"on; at least {MIN_CELLS} of each are needed (with labels that both have). Change validation={share}, "
            "or what is held out, or use more cells."
        )
        raise ValueError(msg)
    return Split(judging, hidden)


def whole_groups(dataset: Dataset, groups: np.ndarray | None) -> np.ndarray | None:
    """Groups that are held out as a whole: with sequences none of these may be divided.

    Raises
    ------
    ValueError
        There is one sequence only, or groups divide one.
    """
    sequences = dataset.sequences
    if sequences is None:
        return groups
    names, numbers = np.unique(sequences, return_inverse=True)
    if len(names) < 2:
        msg = (
            "Training passes whole sequences, and all cells are one: none can be held out. Name several sequences "
            "(sequence_key), or cut this one into parts."
        )
        raise ValueError(msg)
    if groups is None:
        return numbers
    pairs = len(np.unique(np.column_stack([numbers, np.unique(groups, return_inverse=True)[1]]), axis=0))
    if pairs > len(names):
        msg = "split_key divides sequences, which are held out as a whole: name a column with one value a sequence."
        raise ValueError(msg)
    return groups


def held_out_groups(groups: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Groups drawn in a random order whose cells come nearest to the share."""
    levels, sizes = np.unique(groups, return_counts=True)
    if len(levels) < 2:
        msg = f"split_key has one group only ({str(levels[0])!r}): there is nothing to hold out."
        raise ValueError(msg)
    order, best = rng.permutation(len(levels)), (np.inf, levels[:1])
    for start in range(len(levels)):
        turned = np.roll(order, -start)
        off = np.abs(np.cumsum(sizes[turned])[:-1] / len(groups) - share)
        if off.min() < best[0]:
            best = (off.min(), levels[turned[: off.argmin() + 1]])
    return best[1]
