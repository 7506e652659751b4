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


def drawn(classes: EquivalenceClasses, counts, lengths, settings: Settings, n_draws: int, generators) -> np.ndarray:
    """Draws scaled to each sample's fragments, an array of shape (n_samples, n_draws, n_transcripts).

    ``counts`` has shape (n_samples, n_classes), all of them above 0, ``lengths`` (n_samples, n_transcripts), and each
    sample has a generator of its own. Transcripts in no class stay at zero. Those in the same classes with equal
    weights are drawn as one, whose split is that of the prior: their chain would hardly move.
    """
    n, power = np.rint(counts).astype(np.int64), 1 / settings.temperature
    prior, first = max(settings.prior, JEFFREYS), np.unique(classes.indices)
    scale = scale_of(classes, lengths, 1.0)
    representative = _representatives(classes, scale)
    pseudo = prior * _by_transcript(representative[:, first], np.ones((len(n), len(first))), scale.shape)
    a = _by_transcript(representative, estimated(classes, counts, lengths, settings).counts, scale.shape) + pseudo
    used = [np.flatnonzero(row) for row in pseudo]
    certain, shared = _certain(classes, n) + pseudo, list(_shared(classes, n, scale))
    found = np.zeros((len(n), n_draws, classes.n_transcripts))
    for i in range(BURN + EACH * n_draws):
        given = certain + _shared_out(a, shared, power, generators)
        for generator, row, shape, some in zip(generators, a, given, used, strict=True):
            row[some] = generator.gamma(shape[some])
        if i >= BURN and (i - BURN) % EACH == EACH - 1:
            found[:, (i - BURN) // EACH] = a * (n.sum(axis=1) / a.sum(axis=1))[:, None]
    for sample, generator in enumerate(generators):
        found[sample] = _split(found[sample], representative[sample], first, prior, generator)
    return found


def _shared_out(a: np.ndarray, shared: list, power: float, generators) -> np.ndarray:
    """Fragments of the classes of several transcripts, given at random to these: (n_samples, n_transcripts)."""
    given = np.zeros(a.size)
    for fragments, members, weights, places in shared:
        p = a.take(members, axis=1) * weights
        p = p if power == 1 else p**power
        p /= np.maximum(p.sum(axis=2, keepdims=True), TINY)
        parts = np.stack([g.multinomial(*one) for g, *one in zip(generators, fragments, p, strict=True)])
        given += np.bincount(places, parts.ravel(), given.size)
    return given.reshape(a.shape)


def _by_transcript(transcripts: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Sums of values by their sample, the first axis, and transcript."""
    return np.bincount(_places(transcripts, shape), values.ravel(), shape[0] * shape[1]).reshape(shape)


def _places(transcripts: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Places of the transcripts of each sample, the first axis, in a flat array of this shape."""
    return (transcripts.reshape(len(transcripts), -1) + np.arange(shape[0])[:, None] * shape[1]).ravel()


def _representatives(classes: EquivalenceClasses, scale: np.ndarray) -> np.ndarray:
    """For each sample and transcript the first of those in the same classes with equal weights, perhaps itself."""
    found = np.tile(np.arange(classes.n_transcripts), (len(scale), 1))
    if (told_apart(classes.with_weights(None)) < 0).all():
        return found
    for row, factor in zip(found, scale, strict=True):
        values = classes.matrix.data * factor[classes.indices]
        sets = told_apart(classes.with_weights(values / values.mean()), proportional=False)
        several = np.flatnonzero(sets >= 0)
        if len(several):
            _, at, number = np.unique(sets[several], return_index=True, return_inverse=True)
            row[several] = several[at][number]
    return found


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
    """Fragments that only one transcript explains, an array of shape (n_samples, n_transcripts)."""
    alone = np.diff(classes.indptr) == 1
    of_one = np.broadcast_to(classes.indices[classes.indptr[:-1][alone]], (len(n), alone.sum()))
    return _by_transcript(of_one, n[:, alone], (len(n), classes.n_transcripts))


def _shared(classes: EquivalenceClasses, n: np.ndarray, scale: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """(fragments, members, weights, places) of the other classes, those of like width together.

    Weights of 0 fill them up; ``places`` are those of the members in a flat array of all samples and transcripts.
    """
    widths = np.diff(classes.indptr)
    rounded = 1 << np.ceil(np.log2(np.maximum(widths, 1))).astype(np.int64)
    values = classes.matrix.data
    for width in np.unique(rounded[widths > 1]):
        rows = np.flatnonzero((rounded == width) & (widths > 1))
        inside = np.arange(width) < widths[rows, None]
        at = np.where(inside, classes.indptr[rows, None] + np.arange(width), 0)
        members = classes.indices[at]
        weights = np.where(inside, values[at] * scale[:, members], 0)
        yield n[:, rows], members, weights, _places(members[None], scale.shape)
