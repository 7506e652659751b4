"""Words of one to a few bases, by position or by phase: what the regression on words starts from."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.ops.sequence.pooling import PHASES

ROWS_AT_ONCE = 256


def n_words(longest: int) -> int:
    """Number of words of 1 to ``longest`` bases."""
    return sum(4**k for k in range(1, longest + 1))


def word_channels(soft, longest: int) -> Any:
    """The probability of each word that starts at a position, array of shape (n_sequences, length, n_words).

    Words that reach beyond the end have probability 0, as ``soft`` is 0 there. NumPy or JAX.
    """
    library: Any = np if isinstance(soft, np.ndarray) else jnp
    words, found = soft, [soft]
    for k in range(1, longest):
        ahead = library.concatenate([soft[:, k:], library.zeros_like(soft[:, :k])], axis=1)[:, : soft.shape[1]]
        words = (words[..., :, None] * ahead[..., None, :]).reshape(*soft.shape[:2], 4 ** (k + 1))
        found.append(words)
    return library.concatenate(found, axis=-1)


def by_place(channels, mask, *, by_position: bool) -> Any:
    """Words of each position side by side, or summed over the positions of a phase.

    Sums are divided by the root of their number. Array of shape (n_sequences, n_places * n_words).
    """
    library: Any = np if isinstance(channels, np.ndarray) else jnp
    if by_position:
        return channels.reshape(len(channels), -1)
    missing = -channels.shape[1] % PHASES
    padded = library.pad(channels, [(0, 0), (0, missing), (0, 0)])
    sums = padded.reshape(len(channels), -1, PHASES, channels.shape[-1]).sum(axis=1)
    n_there = mask.sum(axis=1)[:, None]
    return sums.reshape(len(channels), -1) / library.sqrt(n_there / PHASES).astype(channels.dtype)


def word_table(soft: np.ndarray, mask: np.ndarray, longest: int, *, by_position: bool) -> sparse.csr_matrix:
    """The same for all sequences, with few entries that are not zero."""
    parts = []
    for start in range(0, len(soft), ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        channels = word_channels(soft[rows], longest)
        parts.append(sparse.csr_matrix(by_place(channels, mask[rows], by_position=by_position)))
    return sparse.vstack(parts, format="csr")
