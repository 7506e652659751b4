"""Piecewise cubic curves in Hermite form: a value and a slope at each knot."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np


def interpolate(knots, x):
    """Value of the curve at ``x``, an array of the same shape; beyond the outer knots it goes on as a straight line.

    Parameters
    ----------
    knots
        Array of shape (3, n_knots) with n_knots of at least 2: rising positions, values, slopes.
    x
        A NumPy array or, differentiable in ``x`` and ``knots``, a JAX array.
    """
    xp = jnp if isinstance(x, jax.Array) or isinstance(knots, jax.Array) else np
    at, value, slope = xp.asarray(knots, x.dtype)
    left = xp.clip(xp.searchsorted(at, x, side="right") - 1, 0, len(at) - 2)
    right = left + 1
    width = at[right] - at[left]
    # not clip: at an outer knot itself it would halve the gradient
    inside = xp.where(x < at[0], at[0], xp.where(x > at[-1], at[-1], x))
    t = (inside - at[left]) / width
    s = 1 - t
    rise = value[right] * t**2 * (1 + 2 * s) + value[left] * s**2 * (1 + 2 * t)
    bend = width * t * s * (slope[left] * s - slope[right] * t)
    beyond = xp.where(x < at[0], slope[0], slope[-1]) * (x - inside)
    return rise + bend + beyond
