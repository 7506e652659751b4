"""Repeated estimates: of resampled fragments, or draws from the posterior distribution."""

from __future__ import annotations

import zlib

import numpy as np

from dbx.ops.abundance.classes import EquivalenceClasses
from dbx.ops.abundance.estimates import Settings, estimated
from dbx.ops.abundance.posterior import drawn

AT_ONCE = 1 << 22
"""Resampled counts, or shares of classes, that are in memory."""


def repeated(classes: EquivalenceClasses, counts, lengths, settings: Settings, n_repeats: int, seed: int) -> np.ndarray:
    """Counts of transcripts, an array of shape (n_samples, n_repeats, n_transcripts).

    Fragments are drawn again with replacement; with a prior, abundances are drawn from their posterior. The numbers of
    a sample depend on its own counts and the seed only, not on other samples.
    """
    found = np.zeros((len(counts), n_repeats, lengths.shape[1]))
    for used, samples in _alike(counts > 0):
        some, n = classes.some(used), counts[np.ix_(samples, used)]
        size = max(AT_ONCE // (len(some.indices) if settings.prior else len(used) * n_repeats), 1)
        for start in range(0, len(samples), size):
            rows, part = samples[start : start + size], n[start : start + size]
            generators = [np.random.default_rng([seed, zlib.crc32(row.astype(np.float64).tobytes())]) for row in part]
            if settings.prior:
                found[rows] = drawn(some, part, lengths[rows], settings, n_repeats, generators)
            else:
                found[rows] = _resampled(some, part, lengths[rows], settings, n_repeats, generators)
    return found


def _alike(positive: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Classes with fragments, and the samples that have fragments in just these."""
    samples: dict[bytes, list[int]] = {}
    for sample, row in enumerate(np.packbits(positive, axis=1)):
        samples.setdefault(row.tobytes(), []).append(sample)
    found = [(np.flatnonzero(positive[some[0]]), np.array(some)) for some in samples.values()]
    return [(used, some) for used, some in found if len(used)]


def _resampled(classes: EquivalenceClasses, counts, lengths, settings: Settings, n_repeats: int, generators):
    """Estimates of fragments drawn again with replacement."""
    totals = counts.sum(axis=1)
    drawn_again = [
        generator.multinomial(round(total), row / total, n_repeats)
        for generator, total, row in zip(generators, totals, counts, strict=True)
    ]
    again = np.concatenate(drawn_again).astype(np.float64)
    found = estimated(classes, again, np.repeat(lengths, n_repeats, axis=0), settings).counts
    return found.reshape(len(counts), n_repeats, -1)
