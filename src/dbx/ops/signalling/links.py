"""Links from ligands to targets: least squares beside a baseline, tested against signals from other senders."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from copy import copy
from typing import Any, NamedTuple

import numpy as np

from dbx.ops.arrays import dense
from dbx.ops.signalling.target_model import Targets

RIDGE = 1e-6
"""Relative to the mean squares of a column, so that columns may depend on each other."""
ABSENT = 1e-8
"""Part of a signal's squares left by the baseline below which nothing of it is."""


class Links(NamedTuple):
    """Coefficients of signals, arrays of shape (n_ligands, n_targets)."""

    weights: np.ndarray
    z: np.ndarray
    """Divided by their standard errors."""
    of_baseline: np.ndarray
    """Coefficients of the baseline's columns for each signal, an array of shape (n_columns, n_ligands)."""


class Moments:
    """Sums of products of the columns of a baseline and of targets, from which links of any signals follow.

    Coefficients are those of a regression on baseline and signals together: signals are replaced by what the
    baseline does not explain of them (Frisch, Waugh and Lovell).
    """

    def __init__(self, baseline: Callable[[slice], np.ndarray], targets: Targets, used: np.ndarray):
        self.baseline, self.targets, self.used = baseline, targets, used
        self.n_cells = int(used.sum())
        gram: Any = 0.0
        cross: Any = 0.0
        squares: Any = 0.0
        for part, rows, y in self._blocks(self.used):
            known = baseline(rows)[part].astype(np.float64)
            gram, cross, squares = gram + known.T @ known, cross + known.T @ y, squares + (y**2).sum(axis=0)
        self.gram, self.cross, self.squares = gram + RIDGE * np.diag(np.diag(gram) + 1), cross, squares
        self._solve()

    def _solve(self) -> None:
        self.inverse = np.linalg.inv(self.gram)
        self.base = self.inverse @ self.cross
        self.left = self.squares - (self.cross * self.base).sum(axis=0)

    def first(self, n_columns: int, baseline: Callable[[slice], np.ndarray]) -> Moments:
        """Of the first columns alone, which are those of ``baseline``: a corner of these sums."""
        part = copy(self)
        part.baseline = baseline
        part.gram, part.cross = self.gram[:n_columns, :n_columns], self.cross[:n_columns]
        part._solve()
        return part

    def _blocks(self, used: np.ndarray) -> Iterable[tuple[np.ndarray, slice, np.ndarray]]:
        """(mask of the used rows of a block, the block, their standardised targets)."""
        for start, stop, y in self.targets.values.parts():
            part = used[start:stop]
            yield part, slice(start, stop), (dense(y)[part].astype(np.float64) - self.targets.mean) / self.targets.sd

    def best_count(self, counts: np.ndarray) -> int:
        """Of some numbers of the first columns that one with Akaike's least information criterion over all targets."""
        explained = np.cumsum(np.linalg.solve(np.linalg.cholesky(self.gram), self.cross) ** 2, axis=0)[counts - 1]
        left = np.maximum(self.squares - explained, ABSENT * self.n_cells)
        return int(counts[np.argmin(self.n_cells * np.log(left).sum(axis=1) + 2 * counts * left.shape[1])])

    def links(self, signals: np.ndarray) -> Links:
        """The links of signals, an array of shape (n_cells, n_ligands)."""
        both: Any = 0.0
        own: Any = 0.0
        cross: Any = 0.0
        for part, rows, y in self._blocks(self.used):
            some, known = signals[rows][part].astype(np.float64), self.baseline(rows)[part]
            both, own, cross = both + known.T @ some, own + some.T @ some, cross + some.T @ (y - known @ self.base)
        of_baseline = self.inverse @ both
        gram = own - both.T @ of_baseline
        absent = np.diag(gram) <= ABSENT * np.diag(own)
        gram[np.diag_indices_from(gram)] += RIDGE * np.diag(own) + np.where(absent, 1e12, 0)
        inverse = np.linalg.inv(gram)
        weights = inverse @ cross
        left = np.maximum(self.left - (weights * cross).sum(axis=0), 0)
        variance = left / max(self.n_cells - len(self.inverse) - len(gram), 1)
        spread = np.sqrt(np.diag(inverse)[:, None] * np.where(variance > 0, variance, np.inf))
        return Links(weights, weights / spread, of_baseline)

    def explained(self, used: np.ndarray, signals: np.ndarray, links: Links, weights: np.ndarray):
        """R2 of targets in other cells: that added by signals with some weights, and that of the baseline."""
        total: Any = 0.0
        base: Any = 0.0
        both: Any = 0.0
        for part, rows, y in self._blocks(used):
            known = self.baseline(rows)[part]
            left = y - known @ self.base
            full = left - (signals[rows][part] - known @ links.of_baseline) @ weights
            total, base, both = total + (y**2).sum(axis=0), base + (left**2).sum(axis=0), both + (full**2).sum(axis=0)
        total = np.where(total > 0, total, 1)
        return (base - both) / total, 1 - base / total


def pooled_pvalues(z: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Share of all links of moved senders that are as strong, of both signs, never 0."""
    ranked = np.sort(np.abs(null).ravel())
    return (1 + len(ranked) - np.searchsorted(ranked, np.abs(z))) / (1 + len(ranked))


def shrunk(links: Links) -> np.ndarray:
    """Weights by the nonnegative garrote at the universal threshold: most ligands have no part in a target."""
    threshold = 2 * np.log(max(len(links.z), np.e))
    return links.weights * np.maximum(1 - threshold / np.maximum(links.z**2, 1e-12), 0)
