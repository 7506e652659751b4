"""Repeated estimates: of resampled fragments, or draws from the posterior distribution."""

from __future__ import annotations

import zlib

import numpy as np

from dbx.ops.abundance.classes import EquivalenceClasses
from dbx.ops.abundance.estimates import Settings, estimated
from dbx.ops.abundance.posterior import drawn


def repeated(
    classes: EquivalenceClasses, counts, lengths, a, settings: Settings, n_repeats: int, seed: int
) -> np.ndarray:
    """Counts of transcripts, an array of shape (n_samples, n_repeats, n_transcripts).

    For maximum likelihood the fragments are drawn again with replacement; for variational Bayes they are assigned
    to transcripts by draws from the posterior distribution. The numbers of a sample depend on its own counts and the
    seed only, not on other samples. ``a`` are the estimates.
    """
    found = np.zeros((len(counts), n_repeats, lengths.shape[1]))
    for sample, (n, length) in enumerate(zip(counts, lengths, strict=True)):
        used = np.flatnonzero(n > 0)
        if not len(used):
            continue
        rng = np.random.default_rng([seed, zlib.crc32(np.ascontiguousarray(n[used], np.float64).tobytes())])
        some = classes.some(used)
        if settings.method == "vb":
            found[sample] = drawn(some, n[used], length, a[sample], settings.prior, n_repeats, rng)
        else:
            again = rng.multinomial(round(n.sum()), n[used] / n.sum(), n_repeats).astype(np.float64)
            found[sample] = estimated(some, again, np.broadcast_to(length, (n_repeats, len(length))), settings).counts
    return found
