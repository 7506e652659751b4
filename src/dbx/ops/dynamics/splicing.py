"""Spliced and unspliced counts in time, in closed form, also where both rates are equal."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

SMALL = 1e-4
"""Difference of the exponents below which their quotient is a series."""
TIMES_TO_REST = 5.3
"""Slow time constants after which a repressed gene counts as silent: 1/200 is left."""


class Curve(NamedTuple):
    """Kinetics of genes that are off, then on until ``switch``, then off: arrays of shape (n_genes,).

    u' = a - u and s' = (top_s r / top_u) u - r s, in units of the splicing time; a is ``top_u`` while on, and 0.
    """

    top_u: Any
    """Unspliced counts of the upper steady state."""
    top_s: Any
    """Spliced counts of the upper steady state."""
    r: Any
    """Degradation rate over splicing rate."""
    switch: Any
    """Time between on and off."""

    @property
    def slow(self) -> Any:
        """The smaller of both rates."""
        return _library(self.r).minimum(self.r, 1.0)

    @property
    def rest(self) -> Any:
        """Time from the switch until the gene is silent again."""
        return TIMES_TO_REST / self.slow

    def end(self, on: Any) -> Any:
        """Longest time in each state."""
        return _library(on).where(on, self.switch, self.rest)

    def at(self, on: Any, t: Any) -> tuple[Any, Any]:
        """Unspliced and spliced counts after a time t in the state on or off."""
        top_u, top_s = started(self, self.switch)
        u0, s0 = on_or(on, 0.0, top_u), on_or(on, 0.0, top_s)
        a = on_or(on, self.top_u, 0.0)
        fast, slow, between = exponentials(t, self.r)
        u = u0 * fast + a * (1 - fast)
        s = s0 * slow + self.top_s * (on_or(on, 1.0, 0.0) * (1 - slow) + self.r * (u0 - a) / self.top_u * between)
        return u, s

    def speed(self, on: Any, u: Any, s: Any) -> tuple[Any, Any]:
        """Time derivatives of both counts."""
        return on_or(on, self.top_u, 0.0) - u, self.r * (self.top_s / self.top_u * u - s)


def started(curve: Curve, t: Any) -> tuple[Any, Any]:
    """Counts after a time t of induction from nothing."""
    fast, slow, between = exponentials(t, curve.r)
    return curve.top_u * (1 - fast), curve.top_s * (1 - slow - curve.r * between)


def exponentials(t: Any, r: Any) -> tuple[Any, Any, Any]:
    """exp(-t), exp(-r t), and their difference over r - 1, which is t exp(-t) where r is 1."""
    library = _library(t)
    fast, slow = library.exp(-t), library.exp(-r * t)
    x = (r - 1) * t
    near = library.abs(x) < SMALL
    apart = (fast - slow) / library.where(r == 1, 1.0, r - 1)
    if library is np and not near.any():
        return fast, slow, apart
    return fast, slow, library.where(near, t * slow * (1 + x / 2 + x * x / 6), apart)


def on_or(on: Any, this: Any, that: Any) -> Any:
    """One of two values by state."""
    return _library(on).where(on, this, that)


def _library(x: Any) -> Any:
    return np if isinstance(x, np.ndarray | float | np.generic) else jnp
