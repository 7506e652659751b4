"""Parts of the classes that share no transcript: problems of their own, small ones as dense arrays of one shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from dbx.ops.abundance.classes import EquivalenceClasses

WIDEST, LONGEST = 64, 1 << 13
"""Transcripts and classes up to which a part is solved densely."""


@dataclass(frozen=True)
class Parts:
    """The connected parts of the graph of classes and transcripts."""

    classes: EquivalenceClasses
    of_class: np.ndarray
    """Part of each class."""
    of_transcript: np.ndarray
    n_classes: np.ndarray
    """Number of classes of each part."""
    n_transcripts: np.ndarray

    @classmethod
    def of(cls, classes: EquivalenceClasses) -> Parts:
        """Find the parts."""
        n = classes.n_classes
        ones, first = np.ones(len(classes.indices), np.int8), np.zeros(n, np.int64)
        some = classes.indptr[:-1] < classes.indptr[1:]
        first[some] = classes.indices[classes.indptr[:-1][some]]
        links = sparse.csr_matrix((ones, (first[classes.row], classes.indices)), (classes.n_transcripts,) * 2)
        count, of_transcript = sparse.csgraph.connected_components(links, directed=False)
        of_class = of_transcript[first]
        sizes = (np.bincount(x, minlength=count) for x in (of_class, of_transcript))
        return cls(classes, of_class, of_transcript, *sizes)

    @property
    def small(self) -> np.ndarray:
        """Whether each part has classes and is solved densely."""
        return (self.n_classes > 0) & (self.n_classes <= LONGEST) & (self.n_transcripts <= WIDEST)

    @property
    def large(self) -> np.ndarray:
        """Whether each part is too large for it."""
        return (self.n_classes > 0) & ~self.small

    def buckets(self) -> Iterator[Bucket]:
        """The small parts, those of similar size together."""
        place_class, place_transcript = _places(self.of_class), _places(self.of_transcript)
        heights, widths = _rounded(self.n_classes), _rounded(self.n_transcripts)
        codes = np.where(self.small, heights * (2 * WIDEST) + widths, -1)
        member_code = codes[self.of_class[self.classes.row]]
        by_code = {int(code): np.flatnonzero(member_code == code) for code in np.unique(codes[codes >= 0])}
        number = np.full(len(codes), -1)
        for code, members in by_code.items():
            parts = np.flatnonzero(codes == code)
            number[parts] = np.arange(len(parts))
            shape = (len(parts), int(heights[parts[0]]), int(widths[parts[0]]))
            rows, columns = self.classes.row[members], self.classes.indices[members]
            at = (number[self.of_class[rows]], place_class[rows], place_transcript[columns])
            yield Bucket.of(shape, members, rows, columns, at)


@dataclass(frozen=True)
class Bucket:
    """Parts of similar size: arrays of shape (n_parts, height, width) with zeros where a part has no more members."""

    members: np.ndarray
    """Number of each member among those of all classes."""
    at: tuple[np.ndarray, np.ndarray, np.ndarray]
    """Part, class within it and transcript within it of each member."""
    classes: np.ndarray
    """Class at each place, an array of shape (n_parts, height), -1 for none."""
    transcripts: np.ndarray

    @classmethod
    def of(cls, shape, members, rows, columns, at) -> Bucket:
        classes, transcripts = np.full(shape[:2], -1), np.full((shape[0], shape[2]), -1)
        classes[at[0], at[1]], transcripts[at[0], at[2]] = rows, columns
        return cls(members, at, classes, transcripts)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of parts, and their height and width."""
        return (*self.classes.shape, self.transcripts.shape[1])

    def dense(self, values: np.ndarray) -> np.ndarray:
        """Values of members as an array of shape (n_parts, height, width)."""
        full = np.zeros(self.shape)
        full[self.at] = values[self.members]
        return full

    def of_classes(self, values: np.ndarray) -> np.ndarray:
        """Values of shape (n_samples, n_classes) as an array of shape (n_samples, n_parts, height)."""
        return np.where(self.classes >= 0, values[:, self.classes], 0)

    def of_transcripts(self, values: np.ndarray, fill: float) -> np.ndarray:
        """Values of shape (n_samples, n_transcripts) as an array of shape (n_samples, n_parts, width)."""
        return np.where(self.transcripts >= 0, values[:, self.transcripts], fill)

    def place(self, into: np.ndarray, values: np.ndarray) -> None:
        """The inverse of :meth:`of_transcripts`."""
        here = self.transcripts >= 0
        into[:, self.transcripts[here]] = values[:, here]


def _places(parts: np.ndarray) -> np.ndarray:
    """Place of each item among those of its part."""
    order = np.argsort(parts, kind="stable")
    starts = np.append(0, np.cumsum(np.bincount(parts)))
    places = np.empty(len(parts), np.int64)
    places[order] = np.arange(len(parts)) - starts[parts[order]]
    return places


def _rounded(sizes: np.ndarray) -> np.ndarray:
    """Sizes rounded up to powers of two."""
    return 1 << np.ceil(np.log2(np.maximum(sizes, 1))).astype(np.int64)
