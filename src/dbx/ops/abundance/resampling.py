"""Repeated estimates: of resampled fragments, or draws from the posterior distribution."""

from __future__ import annotations

import zlib

import numpy as np

from dbx.ops.abundance.classes import EquivalenceClasses
from dbx.ops.abundance.estimates import Settings, estimated
from dbx.ops.abundance.posterior import drawn


def repeated(classes: EquivalenceClasses, counts, lengths, settings: Settings, n_repeats: int, seed: int) -> np.ndarray:
    """Counts of transcripts, an array of shape (n_samples, n_repeats, n_transcripts).

    Fragments are drawn again with replacement; with a prior, abundances are drawn from their posterior. The numbers of
    a sample depend on its own counts and the seed only, not on other samples.
    """
    found = np.zeros((len(counts), n_repeats, lengths.shape[1]))
    for sample, (n, length) in enumerate(zip(counts, lengths, strict=True)):
        used = np.flatnonzero(n > 0)
        if not len(used):
            continue
        rng = np.random.default_rng([seed, zlib.crc32(np.ascontiguousarray(n[used], np.float64).tobytes())])
        if settings.prior:
            found[sample] = drawn(classes.some(used), n[used], length, settings, n_repeats, rng)
            continue
        again = rng.multinomial(round(n.sum()), n[used] / n.sum(), n_repeats).astype(np.float64)
        same = np.broadcast_to(length, (n_repeats, len(length)))
        found[sample] = estimated(classes.some(used), again, same, settings).counts
    return found
