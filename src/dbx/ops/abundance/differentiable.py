"""Estimates as functions that JAX differentiates: at the fixed point, or through some passes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from dbx.ops.abundance.classes import EquivalenceClasses
from dbx.ops.abundance.estimates import Estimates, Settings, estimated
from dbx.ops.abundance.implicit import pulled_back
from dbx.ops.callbacks import on_host
from dbx.ops.values import Array


def at_fixed_point(classes: EquivalenceClasses, settings: Settings) -> Callable[..., tuple[Array, Array]]:
    """Counts and iterations as a function of counts of classes, effective lengths and weights of members.

    Weights are an empty array for the default.
    """

    def with_these(weights: np.ndarray) -> EquivalenceClasses:
        return classes.with_weights(np.asarray(weights, np.float64) if weights.size else None)

    def forward_on_host(counts, lengths, weights):
        found = estimated_in_use(with_these(weights), np.maximum(_double(counts), 0), _double(lengths), settings)
        return found.counts.astype(counts.dtype), found.iterations.astype(np.int32)

    def backward_on_host(counts, lengths, weights, a, cotangent):
        x, effective, estimates, slope = map(_double, (counts, lengths, a, cotangent))
        of_counts, of_lengths, of_weights = pulled_back(with_these(weights), x, effective, estimates, slope, settings)
        of_weights = of_weights if weights.size else np.zeros(0)
        return tuple(x.astype(counts.dtype) for x in (of_counts, of_lengths, of_weights))

    @jax.custom_vjp
    def function(counts, lengths, weights):
        shapes = (
            jax.ShapeDtypeStruct(lengths.shape, lengths.dtype),
            jax.ShapeDtypeStruct(lengths.shape[:1], np.int32),
        )
        return on_host(forward_on_host, shapes, counts, lengths, weights)

    def forward(counts, lengths, weights):
        found = function(counts, lengths, weights)
        return found, (counts, lengths, weights, found[0])

    def backward(kept, cotangents):
        shapes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in kept[:3]]
        return on_host(backward_on_host, shapes, *kept, cotangents[0])

    function.defvjp(forward, backward)
    return function


def _double(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, np.float64)


def estimated_in_use(
    classes: EquivalenceClasses, counts: np.ndarray, lengths: np.ndarray, settings: Settings
) -> Estimates:
    """:func:`estimated` with the classes and samples that have fragments."""
    used, samples = np.flatnonzero((counts > 0).any(axis=0)), np.flatnonzero((counts > 0).any(axis=1))
    if len(used) < classes.n_classes:
        classes, counts = classes.some(used), counts[:, used]
    if len(samples) == len(counts):
        return estimated(classes, counts, lengths, settings)
    found = Estimates(np.zeros(lengths.shape), np.ones(len(lengths), np.int64))
    if len(samples):
        for whole, some in zip(found, estimated(classes, counts[samples], lengths[samples], settings), strict=True):
            whole[samples] = some
    return found


def unrolled(classes: EquivalenceClasses, settings: Settings, n: int, counts, lengths, weights) -> Array:
    """Counts after ``n`` passes from equal counts of all transcripts, by operations of JAX."""
    power, prior = 1 / settings.temperature, settings.prior
    row, column = _members(classes)
    members = weights[None] if weights.size else 1 / lengths[:, column]
    members = members**power

    def one(a, _):
        u = jnp.exp(power * jax.scipy.special.digamma(a)) if prior else _power(a, power)
        parts = members * u[:, column]
        d = jax.ops.segment_sum(parts.T, row, classes.n_classes).T
        share = jnp.where(d > 0, counts / jnp.where(d > 0, d, 1), 0)
        return prior + jax.ops.segment_sum((parts * share[:, row]).T, column, classes.n_transcripts).T, None

    start = counts.sum(axis=1, keepdims=True) / classes.n_transcripts + prior
    found = jax.lax.scan(one, jnp.broadcast_to(start, lengths.shape), length=n)[0]
    return found - prior


def _members(classes: EquivalenceClasses) -> tuple[Array, Array]:
    """Class and transcript of each member.

    In 32 bits always: JAX keeps what it traced of an index array of 64 bits over a change of ``jax_enable_x64``.
    """
    return jnp.asarray(classes.row, jnp.int32), jnp.asarray(classes.indices, jnp.int32)


def _power(a, power: float):
    if power == 1:
        return a
    return jnp.where(a > 0, jnp.where(a > 0, a, 1) ** power, 0)


def log_likelihood(classes: EquivalenceClasses, counts, lengths, weights, a) -> Array:
    """Natural log-likelihood of each sample's fragments, an array of shape (n_samples,)."""
    total = a.sum(axis=1, keepdims=True)
    share = a / jnp.where(total > 0, total, 1)
    row, column = _members(classes)
    members = weights[None] if weights.size else 1 / lengths[:, column]
    parts = members * share[:, column]
    d = jax.ops.segment_sum(parts.T, row, classes.n_classes).T
    seen = (counts > 0) & (d > 0)
    return jnp.where(seen, counts * jnp.log(jnp.where(seen, d, 1)), 0).sum(axis=1)
