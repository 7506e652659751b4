"""Sequences that share words, which must not be on both sides of a split."""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

LONGEST_WORD = 25
"""Bases that unrelated sequences do not share; fewer for short sequences."""


def overlap_groups(codes: np.ndarray) -> np.ndarray:
    """Group of each sequence, an array of shape (n_sequences,), int32.

    Two sequences that share a word (of 25 bases, or half of the longest sequence) are in one group: duplicates,
    overlapping windows and close homologues. ``codes`` are those of bases, padded with -1.
    """
    n, length = codes.shape
    k = max(min(LONGEST_WORD, length // 2), 1)
    hashes, clear = np.zeros((n, length - k + 1), np.int64), np.ones((n, length - k + 1), bool)
    for j in range(k):
        part = codes[:, j : length - k + 1 + j]
        hashes = hashes * 4 + np.maximum(part, 0)
        clear &= (part >= 0) & (part < 4)
    rows = np.repeat(np.arange(n), length - k + 1)[clear.ravel()]
    _, words = np.unique(hashes[clear], return_inverse=True)
    pairs = sparse.coo_matrix((np.ones(len(rows)), (rows, n + words)), shape=(n + len(rows), n + len(rows)))
    return connected_components(pairs, directed=False)[1][:n].astype(np.int32)
