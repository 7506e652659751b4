"""Sequences of different lengths side by side, without padding."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHORTEST = 32
"""Steps of a piece below which cutting a sequence saves nothing."""


@dataclass(frozen=True)
class Packed:
    """Positions in the order in which they are swept: by step, then by lane; a lane is a piece of a sequence.

    Lanes are sorted by length, so that those that still go on at a step are the first ones. A sequence that is much
    longer than the square root of all positions is cut into pieces, which are swept together.
    """

    rows: np.ndarray
    """Row of each position, an array of shape (n_positions,)."""
    offsets: np.ndarray
    """First position of each step, an array of shape (n_steps + 1,)."""
    before: np.ndarray
    """Position before each in its sequence; the first ones have themselves."""
    firsts: np.ndarray
    """First position of each sequence."""
    lasts: np.ndarray
    """Last position of each sequence."""
    sequence: np.ndarray
    """Sequence of each position."""
    ordered: np.ndarray
    """Positions of one sequence after another, each in its order."""
    following: np.ndarray
    """Lane with the next piece of the same sequence, an array of shape (n_lanes,); -1 for the last piece."""
    chains: tuple[np.ndarray, ...]
    """First, second, ... lanes of the sequences that are cut, those with most pieces first."""

    @property
    def n_lanes(self) -> int:
        return len(self.following)

    def steps(self) -> list[tuple[int, int]]:
        """First and last position of each step."""
        return list(zip(self.offsets[:-1].tolist(), self.offsets[1:].tolist(), strict=True))


def pack(sequence: np.ndarray, position: np.ndarray | None = None) -> Packed:
    """Positions of each sequence in the order of ``position``, or of their rows; sequences are numbered from 0."""
    n = len(sequence)
    order = np.argsort(sequence, kind="stable") if position is None else np.lexsort((position, sequence))
    lengths = np.bincount(sequence)
    longest = max(SHORTEST, int(np.ceil(np.sqrt(n))))
    n_pieces = np.where(lengths > 2 * longest, -(-lengths // longest), 1)
    owner = np.repeat(np.arange(len(lengths)), n_pieces)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(n_pieces) - n_pieces, n_pieces)
    size = lengths[owner] // n_pieces[owner] + (number < lengths[owner] % n_pieces[owner])
    begin = np.cumsum(size) - size
    lanes = np.argsort(-size, kind="stable")
    active = np.searchsorted(-size[lanes], -np.arange(size.max()), side="left")
    offsets = np.append(0, np.cumsum(active))
    step = np.repeat(np.arange(len(active)), active)
    lane = np.arange(n) - np.repeat(offsets[:-1], active)
    place = begin[lanes][lane] + step  # in sequences one after another
    where = np.empty(n, np.int32)
    where[place] = np.arange(n, dtype=np.int32)
    ends = np.cumsum(lengths)
    before = where[np.maximum(place - 1, 0)]
    firsts = where[ends - lengths]
    before[firsts] = firsts
    lane_of = np.empty_like(lanes)
    lane_of[lanes] = np.arange(len(lanes))
    goes_on = np.append(owner[1:] == owner[:-1], False)
    following = np.where(goes_on, np.append(lane_of[1:], -1), -1)[lanes]
    cut = np.flatnonzero(n_pieces > 1)
    cut = cut[np.argsort(-n_pieces[cut], kind="stable")]
    start_piece = np.cumsum(n_pieces) - n_pieces
    most = int(n_pieces[cut].max(initial=0))
    chains = tuple(lane_of[start_piece[cut[n_pieces[cut] > i]] + i] for i in range(most))
    rows, numbers = order[place].astype(np.int32), np.asarray(sequence)[order][place].astype(np.int32)
    return Packed(rows, offsets, before, firsts, where[ends - 1], numbers, where, following, chains)
