"""Counts of transcripts from counts of classes: small parts by Newton's method, others by accelerated passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from dbx.ops.abundance.classes import EquivalenceClasses
from dbx.ops.abundance.components import Bucket, Parts
from dbx.ops.abundance.interior import TINY, maximised
from dbx.ops.abundance.passes import fixed_point, passes_of
from dbx.ops.abundance.variational import settled

AT_ONCE = 1 << 21
"""Weights of the problems that are solved together."""


class Estimates(NamedTuple):
    """Of several samples."""

    counts: np.ndarray
    """Expected fragments of each transcript, an array of shape (n_samples, n_transcripts)."""
    iterations: np.ndarray
    """The most that any part needed; 0 where one did not settle."""


@dataclass(frozen=True)
class Settings:
    """How counts are estimated; see :func:`dbx.tl.quantify`."""

    method: Literal["em", "vb"] = "em"
    vb_prior: float = 1e-2
    max_iter: int = 10_000
    tol: float = 1e-10
    acceleration: bool = True
    temperature: float = 1.0

    @property
    def prior(self) -> float:
        """Prior counts of each transcript."""
        return self.vb_prior if self.method == "vb" else 0.0

    @property
    def by_newton(self) -> bool:
        """Whether small parts are solved by Newton's method."""
        return self.acceleration and self.temperature == 1


def estimated(classes: EquivalenceClasses, counts: np.ndarray, lengths: np.ndarray, settings: Settings) -> Estimates:
    """Estimates from counts of shape (n_samples, n_classes) and lengths of shape (n_samples, n_transcripts)."""
    parts = Parts.of(classes)
    found = np.zeros(lengths.shape)
    most = np.zeros(len(lengths), np.int64)
    failed = np.zeros(len(parts.n_classes), bool)
    unsettled = np.zeros(len(lengths), bool)
    if settings.by_newton:
        failed |= _by_newton(parts, counts, lengths, settings, found, most)
    chosen = parts.large | failed if settings.by_newton else parts.n_classes > 0
    if chosen.any():
        needed = _by_passes(parts, chosen, counts, lengths, settings, found)
        most = np.maximum(most, needed.max(axis=0))
        unsettled = (needed == 0).any(axis=0)
    return Estimates(found, np.where(unsettled, 0, most))


def _by_newton(parts: Parts, counts, lengths, settings: Settings, found, most) -> np.ndarray:
    """Fill in the small parts; returns for which of all parts that failed."""
    failed = np.zeros(len(parts.n_classes), bool)
    for bucket in parts.buckets():
        size = max(AT_ONCE // max(int(np.prod(bucket.shape)), 1), 1)
        for start in range(0, len(counts), size):
            rows = slice(start, start + size)
            a, iterations = _of_bucket(parts.classes, bucket, counts[rows], lengths[rows], settings)
            bucket.place(found[rows], a)
            most[rows] = np.maximum(most[rows], iterations.max(axis=1))
            failed[parts.of_class[bucket.classes[(iterations == 0).any(axis=0), 0]]] = True
    return failed


def _of_bucket(classes: EquivalenceClasses, bucket: Bucket, counts, lengths, settings: Settings):
    n_samples, (n_parts, height, width) = len(counts), bucket.shape
    weights = bucket.dense(classes.matrix.data)
    if classes.weights is None:
        weights = weights / bucket.of_transcripts(lengths, 1.0)[:, :, None]
    else:
        weights = np.broadcast_to(weights, (n_samples, *weights.shape))
    w, n = weights.reshape(-1, height, width), bucket.of_classes(counts).reshape(-1, height)
    a, iterations = maximised(w, n, settings.tol)
    if settings.prior:
        start = np.where(iterations[:, None] > 0, a, n.sum(axis=1, keepdims=True) / width) + settings.prior
        a, iterations = settled(w, n, start, settings.prior, settings.tol, settings.max_iter)
        a = a - settings.prior
    return a.reshape(n_samples, n_parts, width), iterations.reshape(n_samples, n_parts)


def _by_passes(parts: Parts, chosen, counts, lengths, settings: Settings, found) -> np.ndarray:
    """Fill in the chosen parts; returns the passes that each part and sample needed."""
    scale = scale_of(parts.classes, lengths, settings.temperature)
    passes, transcripts = passes_of(parts, chosen, scale, counts, 0.0, 1 / settings.temperature)
    total = passes.by_part(np.ones(passes.scale.shape))
    per_part = passes.by_part(np.zeros(passes.scale.shape)) * 0
    np.add.at(per_part, passes.of_class, passes.counts)
    a = (per_part / total)[passes.parts]
    limits = (settings.tol, settings.max_iter, settings.acceleration)
    a, needed = fixed_point(passes, a, *limits)
    if settings.prior:
        passes, _ = passes_of(parts, chosen, scale, counts, settings.prior, 1 / settings.temperature)
        a, needed = fixed_point(passes, a + settings.prior, *limits)
        a = a - settings.prior
    found[:, transcripts] = a.T
    return needed


def scale_of(classes: EquivalenceClasses, lengths: np.ndarray, temperature: float) -> np.ndarray:
    """What weights are multiplied with, of the shape of the lengths."""
    return lengths ** (-1 / temperature) if classes.weights is None else np.ones(lengths.shape)


def log_likelihood(classes: EquivalenceClasses, counts: np.ndarray, lengths: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Natural log-likelihood of each sample's fragments, an array of shape (n_samples,)."""
    share = a / np.maximum(a.sum(axis=1, keepdims=True), TINY) * scale_of(classes, lengths, 1.0)
    d = (classes.matrix @ share.T).T
    return (counts * np.log(np.maximum(d, TINY))).sum(axis=1)


def per_million(a: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Transcripts per million: counts over effective lengths, scaled to a sum of a million."""
    rate = a / lengths
    total = rate.sum(axis=-1, keepdims=True)
    return rate / np.where(total > 0, total, 1) * 1e6
