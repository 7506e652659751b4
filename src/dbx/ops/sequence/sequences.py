"""Sequences as networks take them: codes or distributions, cut or padded."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from dbx._warnings import warn
from dbx.ops.sequence.alphabet import CODES, MEANS, N_CODE, PAD, UNKNOWN, check_codes, codes_of, fitted_length


def checked(text: Any, x: Any, alphabet: str, k: int | None) -> np.ndarray:
    """Codes of letters, of shape (n_sequences, length), int8, or distributions over bases, of shape (.., length, 4).

    ``x`` holds one-hot rows or token numbers, of bases or of words of ``k`` bases; -1 is padding.

    Raises
    ------
    ValueError
        There is neither or both, other letters or numbers, or an empty sequence.
    """
    if (text is None) == (x is None):
        msg = "Sequences are needed once: as text (sequence_key) or as an array (use_rep)."
        raise ValueError(msg)
    if text is not None:
        return codes_of(np.asarray(text), alphabet)
    x = np.asarray(x)
    if x.ndim == 3 and x.shape[2] == 4:
        return _checked_soft(x)
    if x.ndim != 2 or x.dtype.kind != "i":
        msg = (
            "use_rep must name one-hot sequences, an array of shape (n, length, 4), or whole token numbers of shape "
            f"(n, length); got {x.dtype} of shape {x.shape}."
        )
        raise ValueError(msg)
    tokens = 4 ** (k or 1)
    wrong = np.argwhere((x < PAD) | (x > tokens))
    if len(wrong):
        row, place = wrong[0]
        msg = (
            f"Token {x[row, place]} in row {row} at position {place}: tokens are 0 to {tokens - 1}, {tokens} where "
            "unknown, and -1 for padding."
        )
        raise ValueError(msg)
    codes = np.asarray(bases_of(x, k), np.int8)
    check_codes(codes, lambda row, place: str(codes[row, place]), alphabet)
    return codes


def _checked_soft(x: np.ndarray) -> np.ndarray:
    totals = x.sum(axis=2)
    wrong = np.argwhere((x < 0).any(axis=2) | ((totals != 0) & ~np.isclose(totals, 1, atol=1e-3)))
    if len(wrong):
        row, place = wrong[0]
        msg = (
            f"Row {row} at position {place} is no distribution over A, C, G and T: {x[row, place]}; use 0 and 1, or "
            "only 0 for padding."
        )
        raise ValueError(msg)
    there = totals > 0
    check_codes(np.where(there, 0, PAD), lambda row, place: "", "DNA")
    inside = np.argwhere(~there[:, :-1] & there[:, 1:])
    if len(inside):
        row, place = inside[0]
        msg = f"Row {row} has padding at position {place}, before its end: padding must follow the sequence."
        raise ValueError(msg)
    return x


def bases_of(tokens: Any, k: int | None) -> Any:
    """Codes of bases of token numbers; an unknown word is k times N. NumPy or JAX."""
    library: Any = np if isinstance(tokens, np.ndarray) else jnp
    if k is None:
        return library.where(tokens == 4, N_CODE, tokens)
    digits = library.stack([tokens // 4 ** (k - 1 - j) % 4 for j in range(k)], axis=-1)
    digits = library.where((tokens == 4**k)[..., None], N_CODE, digits)
    digits = library.where((tokens < 0)[..., None], PAD, digits)
    return digits.reshape(len(tokens), -1)


def soft_of(values: Any, dtype: Any) -> tuple[Any, Any]:
    """Distributions over bases, and the mask of positions, of codes or of distributions, in JAX."""
    if values.ndim == 3:
        return jnp.asarray(values), (values != 0).any(axis=-1)
    return jnp.asarray(MEANS, dtype)[values], values >= 0


def in_graph(text: Any, x: Any, k: int | None) -> Any:
    """The same as :func:`checked` for traced arrays, without checks."""
    if text is not None:
        codes = jnp.asarray(CODES)[jnp.asarray(text, jnp.int32)]
        return jnp.where(codes == UNKNOWN, N_CODE, codes)
    return x if x.ndim == 3 else bases_of(jnp.asarray(x), k)


def cut(values: np.ndarray, length: int | None) -> np.ndarray:
    """Cut or padded to a length (None: as long as the longest, in steps of 32), with a warning of what is cut."""
    there = values != PAD if values.ndim == 2 else (values != 0).any(axis=2)
    longest = int(there.sum(axis=1).max(initial=1))
    if length is None:
        return fitted_length(values, -(-longest // 32) * 32)
    if longest > length:
        n_cut = int((there.sum(axis=1) > length).sum())
        warn(f"{n_cut} sequences are longer than {length} positions: only their first {length} are used.")
    return fitted_length(values, length)


def lengths(values: np.ndarray) -> np.ndarray:
    """Number of positions of each sequence."""
    return (values != PAD).sum(axis=1) if values.ndim == 2 else (values != 0).any(axis=2).sum(axis=1)
