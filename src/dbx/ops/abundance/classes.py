"""Equivalence classes: fragments that are compatible with the same transcripts."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from scipy import sparse


@dataclass(frozen=True, eq=False)
class EquivalenceClasses:
    """Which transcripts the fragments of each class are compatible with, in compressed rows."""

    n_transcripts: int
    indptr: np.ndarray
    """Array of shape (n_classes + 1,): where the members of each class start and end."""
    indices: np.ndarray
    """Transcript of each member."""
    weights: np.ndarray | None = None
    """Probability of a fragment of the class given each member, up to a factor of the class; by default 1 over the
    effective length of the transcript."""

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return len(self.indptr) - 1

    @cached_property
    def matrix(self) -> sparse.csr_matrix:
        """Weights, 1 by default, as CSR of shape (n_classes, n_transcripts)."""
        values = np.ones(len(self.indices)) if self.weights is None else np.asarray(self.weights, np.float64)
        return sparse.csr_matrix((values, self.indices, self.indptr), shape=(self.n_classes, self.n_transcripts))

    @cached_property
    def row(self) -> np.ndarray:
        """Class of each member."""
        return np.repeat(np.arange(self.n_classes), np.diff(self.indptr))

    def some(self, chosen: np.ndarray) -> EquivalenceClasses:
        """Only the classes with these numbers."""
        lengths = np.diff(self.indptr)[chosen]
        indptr = np.append(0, np.cumsum(lengths))
        at = np.repeat(self.indptr[:-1][chosen] - indptr[:-1], lengths) + np.arange(indptr[-1])
        weights = None if self.weights is None else np.asarray(self.weights)[at]
        return EquivalenceClasses(self.n_transcripts, indptr, self.indices[at], weights)

    def with_weights(self, weights: np.ndarray | None) -> EquivalenceClasses:
        """The same classes with other weights."""
        return EquivalenceClasses(self.n_transcripts, self.indptr, self.indices, weights)

    def text(self) -> str:
        """Numbers of the transcripts of each class, joined by commas, and of all classes, joined by semicolons."""
        return _joined(self.indices, self.indptr)

    def weights_text(self) -> str:
        """The weights in the same form, empty for the default."""
        return "" if self.weights is None else _joined(self.weights, self.indptr)


def _joined(values: np.ndarray, indptr: np.ndarray) -> str:
    texts = np.asarray(values).tolist()
    return ";".join(",".join(map(repr, texts[a:b])) for a, b in itertools.pairwise(indptr))


@lru_cache(maxsize=4)
def classes_of(text: str, n_transcripts: int) -> EquivalenceClasses:
    """Classes from :meth:`EquivalenceClasses.text`."""
    rows = text.split(";")
    indptr = np.append(0, np.cumsum([row.count(",") + 1 for row in rows]))
    return EquivalenceClasses(n_transcripts, indptr, numbers(text, np.int64))


def numbers(text: str, dtype: type) -> np.ndarray:
    """All numbers of a text in which commas and semicolons separate them."""
    return np.array(text.replace(";", ",").split(","), dtype=dtype) if text else np.empty(0, dtype)


def told_apart(classes: EquivalenceClasses, *, proportional: bool = True) -> np.ndarray:
    """Number of the set that each transcript is in: those in the same classes with proportional, or equal, weights.

    An array of shape (n_transcripts,), int32, -1 for a transcript that shares its classes with no other. Only their
    effective lengths decide between members of a set, and nothing where these are equal. The reverse does not hold:
    several transcripts together may explain the same fragments as others.
    """
    columns = sparse.csc_matrix(classes.matrix)
    sets: dict[bytes, list[int]] = {}
    for t in range(classes.n_transcripts):
        part = slice(columns.indptr[t], columns.indptr[t + 1])
        if part.start == part.stop:
            continue
        values = columns.data[part]
        key = columns.indices[part].tobytes() + np.round(values / values[0] if proportional else values, 9).tobytes()
        sets.setdefault(key, []).append(t)
    found = np.full(classes.n_transcripts, -1, np.int32)
    for number, members in enumerate(members for members in sets.values() if len(members) > 1):
        found[members] = number
    return found
