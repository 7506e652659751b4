"""Rigid maps at a fixed coupling as differentiable functions of all positions."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dbx.ops.values import Array


def pair_maps(
    spatial: Array, pair: Array, first: Array, second: Array, weights: Array, n_pairs: int, *, reflect: bool
) -> tuple[Array, Array]:
    """Rotation and shift of each pair of slices by weighted Procrustes: arrays of n_pairs matrices and vectors."""

    def total(values):
        return jax.ops.segment_sum(values, pair, n_pairs)

    share = weights / total(weights)[pair]
    x, y = spatial[first], spatial[second]
    to, of = total(share[:, None] * x), total(share[:, None] * y)
    cross = total(share[:, None, None] * (x - to[pair])[:, :, None] * (y - of[pair])[:, None, :])
    rotation = jax.vmap(_reflecting if reflect else _proper)(cross)
    return rotation, to - jnp.einsum("pij,pj->pi", rotation, of)


def composed(rotations: Array, shifts: Array) -> tuple[Array, Array]:
    """Maps of slices into the frame of the first, from those of each into the frame of the one before it."""

    def after(so_far, found):
        rotation, shift = so_far
        both = rotation @ found[0], rotation @ found[1] + shift
        return both, both

    start = jnp.eye(rotations.shape[-1], dtype=rotations.dtype), jnp.zeros_like(shifts[0])
    return jax.lax.scan(after, start, (rotations, shifts))[1]


def _polar(cross: Array, *, reflect: bool) -> tuple[Array, ...]:
    left, values, right = jnp.linalg.svd(cross)
    if not reflect:
        sign = jnp.sign(jnp.linalg.det(left @ right))
        left, values = left.at[:, -1].multiply(sign), values.at[-1].multiply(sign)
    return left, values, right


def _made(*, reflect: bool):
    """The rotation of Procrustes; its derivative is implicit, and finite where singular values are equal."""

    @jax.custom_jvp
    def rotation(cross):
        left, _, right = _polar(cross, reflect=reflect)
        return left @ right

    @rotation.defjvp
    def rotation_jvp(primals, tangents):
        left, values, right = _polar(primals[0], reflect=reflect)
        turned = left.T @ tangents[0] @ right.T
        skew = (turned - turned.T) / (values[:, None] + values + jnp.eye(len(values)))
        return left @ right, left @ skew @ right

    return rotation


_proper, _reflecting = _made(reflect=False), _made(reflect=True)
