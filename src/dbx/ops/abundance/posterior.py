"""Draws of abundances from their posterior distribution, by Gibbs sampling.

Fragments of each class are shared out at random by the abundances, then abundances are drawn from the gamma
distributions that the shares give. Under the small prior of the estimates a transcript that has lost its fragments
hardly ever gets one again; Jeffreys' prior, of half a fragment, lets the chain move, and its draws are about as wide as
estimates of fresh fragments scatter.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dbx.ops.abundance.classes import EquivalenceClasses, told_apart
from dbx.ops.abundance.estimates import Settings, estimated, scale_of
from dbx.ops.abundance.interior import TINY

JEFFREYS = 0.5
"""Smallest prior count of a transcript."""
BURN, EACH = 50, 16
"""Rounds before the first draw, and for each draw."""


def drawn(classes: EquivalenceClasses, counts, lengths, settings: Settings, n_draws: int, rng) -> np.ndarray:
    """Draws for one sample: abundances scaled to its fragments, an array of shape (n_draws, n_transcripts).

    All classes have fragments; transcripts in none of them stay at zero. Transcripts in the same classes with equal
    weights are drawn as one, whose split is that of the prior: their chain would hardly move.
    """
    n, power = np.rint(counts).astype(np.int64), 1 / settings.temperature
    prior, first = max(settings.prior, JEFFREYS), np.unique(classes.indices)
    scale = scale_of(classes, lengths[None], 1.0)[0]
    representative = _representatives(classes, scale)
    a = np.bincount(representative, estimated(classes, counts[None], lengths[None], settings).counts[0], len(scale))
    pseudo = prior * np.bincount(representative[first], minlength=len(scale))
    one = _only(classes, representative == np.arange(len(scale)))
    sure, shared, used = _certain(one, n), list(_shared(one, n, scale)), np.flatnonzero(pseudo)
    a, found = a + pseudo, np.zeros((n_draws, classes.n_transcripts))
    for i in range(BURN + EACH * n_draws):
        given = sure.copy()
        for fragments, members, weights in shared:
            p = (a[members] * weights) ** power
            p /= np.maximum(p.sum(axis=1, keepdims=True), TINY)
            given += np.bincount(members.ravel(), rng.multinomial(fragments, p).ravel(), len(given))
        a[used] = rng.gamma(given[used] + pseudo[used])
        if i >= BURN and (i - BURN) % EACH == EACH - 1:
            found[(i - BURN) // EACH] = a * (n.sum() / a[used].sum())
    return _split(found, representative, first, prior, rng)


def _representatives(classes: EquivalenceClasses, scale: np.ndarray) -> np.ndarray:
    """For each transcript the first of those that are in the same classes with equal weights, perhaps itself."""
    values = classes.matrix.data * scale[classes.indices]
    sets = told_apart(classes.with_weights(values / values.mean()), proportional=False)
    found = np.arange(classes.n_transcripts)
    several = np.flatnonzero(sets >= 0)
    if len(several):
        _, at, number = np.unique(sets[several], return_index=True, return_inverse=True)
        found[several] = several[at][number]
    return found


def _only(classes: EquivalenceClasses, kept: np.ndarray) -> EquivalenceClasses:
    """The classes with some of the transcripts."""
    some = kept[classes.indices]
    indptr = np.append(0, np.cumsum(np.bincount(classes.row[some], minlength=classes.n_classes)))
    weights = None if classes.weights is None else np.asarray(classes.weights)[some]
    return EquivalenceClasses(classes.n_transcripts, indptr, classes.indices[some], weights)


def _split(found: np.ndarray, representative: np.ndarray, seen: np.ndarray, prior: float, rng) -> np.ndarray:
    """Draws of representatives shared out among those that they stand for."""
    members = seen[np.bincount(representative[seen], minlength=len(representative))[representative[seen]] > 1]
    if not len(members):
        return found
    parts = rng.gamma(prior, size=(len(found), len(members)))
    _, number = np.unique(representative[members], return_inverse=True)
    total = np.stack([np.bincount(number, row) for row in parts])
    found[:, members] = found[:, representative[members]] * parts / total[:, number]
    return found


def _certain(classes: EquivalenceClasses, n: np.ndarray) -> np.ndarray:
    """Fragments that only one transcript explains."""
    alone = np.diff(classes.indptr) == 1
    first = classes.indices[classes.indptr[:-1][alone]]
    return np.bincount(first, n[alone], classes.n_transcripts).astype(np.float64)


def _shared(classes: EquivalenceClasses, n: np.ndarray, scale: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """(fragments, members, weights) of the other classes, those of like width together; weights of 0 fill them up."""
    widths = np.diff(classes.indptr)
    rounded = 1 << np.ceil(np.log2(np.maximum(widths, 1))).astype(np.int64)
    values = classes.matrix.data
    for width in np.unique(rounded[widths > 1]):
        rows = np.flatnonzero((rounded == width) & (widths > 1))
        inside = np.arange(width) < widths[rows, None]
        at = np.where(inside, classes.indptr[rows, None] + np.arange(width), 0)
        members = classes.indices[at]
        yield n[rows], members, np.where(inside, values[at] * scale[members], 0)
