"""Derivatives of estimates by the implicit function theorem at their fixed point."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from dbx.ops.abundance.classes import EquivalenceClasses
from dbx.ops.abundance.components import Bucket, Parts
from dbx.ops.abundance.estimates import Settings, scale_of
from dbx.ops.abundance.interior import TINY

RANK = 1e-10
"""Directions with a smaller eigenvalue than this fraction of the largest are not identified: no derivative."""


def pulled_back(classes: EquivalenceClasses, counts, lengths, a, cotangent, settings: Settings):
    """Derivatives of sum(cotangent * a) in the counts of classes, the effective lengths, and the weights of members.

    ``a`` are the estimates of ``counts`` and ``lengths``, each with a row for each sample; transcripts at zero have no
    derivative. With J the derivative of a pass, this solves (I - J)' x = cotangent, which is symmetric after scaling.
    """
    power = 1 / settings.temperature
    matrix = classes.matrix if power == 1 else classes.matrix.power(power)
    e, slope = expected(a, settings)
    scale = scale_of(classes, lengths, settings.temperature)
    d = np.maximum((matrix @ (e * scale).T).T, TINY)
    r = counts / d
    gain = scale * (matrix.T @ r.T).T
    positive = (e > 0) & (slope > 0)
    factor = np.sqrt(np.where(positive, e * slope, 0))
    right = np.sqrt(np.divide(e, slope, out=np.zeros_like(e), where=positive)) * cotangent
    diagonal = np.where(positive, 1 - slope * gain, 1)
    z = factor * _solved(classes, matrix, counts, factor * scale, np.sqrt(r / d), diagonal, right)
    through = (matrix @ (z * scale).T).T / d
    to_members = np.zeros((len(counts), len(classes.indices)))
    for sample, one in enumerate(to_members):
        one += (z * scale)[sample, classes.indices] * r[sample, classes.row]
        one -= (e * scale)[sample, classes.indices] * (through * r)[sample, classes.row]
    return through, *_to_settings(classes, matrix, to_members, lengths, power)


def expected(a: np.ndarray, settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """What shares are proportional to, and its derivative in the parameters of the fixed point, prior included."""
    power = 1 / settings.temperature
    if settings.prior:
        from scipy import special

        a = a + settings.prior
        e = np.exp(power * special.digamma(a))
        return e, power * special.zeta(2.0, a) * e
    positive = np.where(a > 0, a, 1)
    return np.where(a > 0, positive**power, 0), np.where(a > 0, power * positive ** (power - 1), 0)


def _to_settings(classes: EquivalenceClasses, matrix, to_members, lengths, power: float):
    """From derivatives in the logarithms of powered weights to those in lengths and weights."""
    to_members = power * to_members * matrix.data
    if classes.weights is not None:
        return np.zeros(lengths.shape), (to_members / classes.weights).sum(axis=0)
    entries = (np.ones(len(classes.indices)), classes.indices, np.arange(len(classes.indices) + 1))
    by_transcript = sparse.csr_matrix(entries, (len(classes.indices), classes.n_transcripts))
    return -(by_transcript.T @ to_members.T).T / lengths, np.zeros(len(classes.indices))


def _solved(classes: EquivalenceClasses, matrix, counts, outer, inner, diagonal, right) -> np.ndarray:
    """Solutions x of (diag(diagonal) + B'B) x = right with B = diag(inner) matrix diag(outer), of least norm."""
    used = np.flatnonzero((counts > 0).any(axis=0))
    found = np.zeros(right.shape)
    parts = Parts.of(classes.some(used).with_weights(matrix[used].data))
    for bucket in parts.buckets():
        for sample in range(len(counts)):
            one = slice(sample, sample + 1)
            x = _of_bucket(parts.classes, bucket, outer[one], inner[one][:, used], diagonal[one], right[one])
            bucket.place(found[one], x[None])
    if parts.large.any():
        transcripts = np.flatnonzero(parts.large[parts.of_transcript])
        among = matrix[used][:, transcripts]
        for sample in range(len(counts)):
            half = sparse.diags(inner[sample, used]) @ among @ sparse.diags(outer[sample, transcripts])
            found[sample, transcripts] = _of_large(half, diagonal[sample, transcripts], right[sample, transcripts])
    return found


def _of_bucket(classes: EquivalenceClasses, bucket: Bucket, outer, inner, diagonal, right) -> np.ndarray:
    half = bucket.dense(classes.matrix.data) * bucket.of_classes(inner)[0][..., None]
    half = half * bucket.of_transcripts(outer, 0.0)[0][:, None]
    system = np.matmul(half.transpose(0, 2, 1), half)
    at = np.arange(system.shape[1])
    system[:, at, at] += bucket.of_transcripts(diagonal, 1.0)[0]
    inverse = np.linalg.pinv(system, rcond=RANK, hermitian=True)
    return np.matmul(inverse, bucket.of_transcripts(right, 0.0)[0][..., None])[..., 0]


def _of_large(half: sparse.csr_matrix, diagonal: np.ndarray, right: np.ndarray) -> np.ndarray:
    from scipy.sparse import linalg

    system = linalg.LinearOperator((len(right), len(right)), lambda x: diagonal * x + half.T @ (half @ x))
    return linalg.minres(system, right, rtol=1e-12, maxiter=20 * len(right))[0]
