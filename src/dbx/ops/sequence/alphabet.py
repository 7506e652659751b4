"""Nucleotides as numbers: letters of IUPAC, their codes, and distributions over A, C, G and T."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from dbx.data.text import as_bytes

BASES = "ACGT"
AMBIGUOUS = {
    "R": "AG",
    "Y": "CT",
    "S": "CG",
    "W": "AT",
    "K": "GT",
    "M": "AC",
    "B": "CGT",
    "D": "AGT",
    "H": "ACT",
    "V": "ACG",
    "N": "ACGT",
}
"""Letters for one of several bases."""
LETTERS = BASES + "".join(AMBIGUOUS)
"""The letter of each code."""
N_CODE = LETTERS.index("N")
PAD = -1
UNKNOWN = -2
"""Code of what is no letter of the alphabet."""


def _means() -> np.ndarray:
    named = [[base in AMBIGUOUS.get(letter, letter) for base in BASES] for letter in LETTERS]
    rows = np.array(named, np.float32)
    return np.vstack([rows / rows.sum(axis=1, keepdims=True), np.zeros((1, 4), np.float32)])


def _codes_of_ascii() -> np.ndarray:
    table = np.full(128, UNKNOWN, np.int8)
    table[0] = PAD
    for code, letter in enumerate(LETTERS):
        table[[ord(letter), ord(letter.lower())]] = code
    table[[ord("U"), ord("u")]] = LETTERS.index("T")
    return table


MEANS = _means()
"""Mean one-hot of the bases that a letter stands for, array of shape (n_letters + 1, 4); the last row is padding."""
CODES = _codes_of_ascii()
"""Code of each ASCII character of text; 0 is padding."""


def codes_of(text: np.ndarray, alphabet: str = "DNA") -> np.ndarray:
    """Codes of letters for text as ASCII codes, an array of the same shape, int8; -1 is padding.

    Raises
    ------
    ValueError
        There is another letter, or a sequence is empty.
    """
    codes = CODES[text]
    check_codes(codes, lambda row, place: chr(text[row, place]), alphabet)
    return codes


def check_codes(codes: np.ndarray, letter_at, alphabet: str) -> None:
    """Refuse letters outside the alphabet, by row and position, and empty sequences."""
    wrong = np.argwhere(codes == UNKNOWN)
    if len(wrong):
        row, place = map(int, wrong[0])
        letter = letter_at(row, place)
        bases = BASES if alphabet == "DNA" else BASES.replace("T", "U")
        gap = " Gaps must be removed first, as in sequence.replace('-', '')." if letter in "-.*" else ""
        msg = (
            f"Sequence {row} (counted from 0) has {letter!r} at position {place}, which is not a letter of {alphabet}: "
            f"use {', '.join(bases)}, or N where the base is not known.{gap}"
        )
        raise ValueError(msg)
    empty = np.flatnonzero(~(codes != PAD).any(axis=1)) if codes.size else np.arange(len(codes))
    if len(empty):
        msg = (
            f"{'All' if len(empty) == len(codes) else len(empty)} sequences are empty (the first is row {empty[0]}): "
            "remove them, or fill in their letters."
        )
        raise ValueError(msg)


def one_hot(sequences: str | Iterable[str], *, max_length: int | None = None) -> np.ndarray:
    """Sequences as distributions over A, C, G and T, padded with zeros.

    Parameters
    ----------
    sequences
        Texts, upper or lower case; U is T, and letters of IUPAC for several bases, such as N, are their mean.
    max_length
        Number of positions, where longer sequences are cut; the longest by default.

    Returns
    -------
    Array of shape (n_sequences, length, 4), float32.

    Raises
    ------
    ValueError
        A sequence has another letter, or is empty.

    Examples
    --------
    >>> import dbx
    >>> dbx.ops.one_hot(["ACN"])[0]
    array([[1.  , 0.  , 0.  , 0.  ],
           [0.  , 1.  , 0.  , 0.  ],
           [0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """
    codes = codes_of(as_bytes([sequences] if isinstance(sequences, str) else sequences))
    return MEANS[fitted_length(codes, codes.shape[1] if max_length is None else max_length)]


def fitted_length(codes: np.ndarray, length: int) -> np.ndarray:
    """The first positions of sequences, padded to a length; of codes or one-hot rows."""
    missing = length - codes.shape[1]
    if missing <= 0:
        return codes[:, :length]
    padding = [(0, 0), (0, missing)] + [(0, 0)] * (codes.ndim - 2)
    return np.pad(codes, padding, constant_values=PAD if codes.ndim == 2 else 0)
