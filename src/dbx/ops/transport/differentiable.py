"""Entropic optimal transport as a differentiable function of points, masses and epsilon."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np

from dbx.ops.callbacks import on_host
from dbx.ops.transport.adjoint import slopes
from dbx.ops.transport.sinkhorn import Marginals, sinkhorn
from dbx.ops.values import Array

SETTLED = 1e-12
"""Threshold of potentials of which derivatives are taken."""


@partial(jax.custom_vjp, nondiff_argnums=(5, 6, 7))
def dual_potentials(
    x: Array,
    y: Array,
    log_a: Array,
    log_b: Array,
    epsilon: Array,
    scale: float = 1.0,
    tau_a: float = 1.0,
    tau_b: float = 1.0,
) -> tuple[Array, Array]:
    """Potentials over epsilon of the rows and columns of the coupling of ``sinkhorn``, on the host.

    Differentiable, by the implicit function theorem, in all arguments before ``scale``; float64 where it is enabled.
    """
    shapes = [jax.ShapeDtypeStruct(side.shape[:1], x.dtype) for side in (x, y)]
    phi, gamma = on_host(partial(_solve, scale, tau_a, tau_b), shapes, x, y, log_a, log_b, epsilon)
    return phi, gamma


def _forward(x, y, log_a, log_b, epsilon, scale, tau_a, tau_b):
    found = dual_potentials(x, y, log_a, log_b, epsilon, scale, tau_a, tau_b)
    return found, (x, y, log_a, log_b, epsilon, *found)


def _backward(scale, tau_a, tau_b, kept, cotangents):
    shapes = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in kept[:5]]
    return on_host(partial(_slopes, scale, tau_a, tau_b), shapes, *kept, *cotangents)


dual_potentials.defvjp(_forward, _backward)


def _solve(scale, tau_a, tau_b, x, y, log_a, log_b, epsilon):
    marginals = Marginals(log_a.astype(np.float64), log_b.astype(np.float64), tau_a, tau_b)
    found = sinkhorn(x, y, marginals, epsilon=float(epsilon), scale=scale, threshold=SETTLED, max_iterations=20_000)
    return found.phi, found.gamma


def _slopes(scale, tau_a, tau_b, x, y, log_a, log_b, epsilon, phi, gamma, to_phi, to_gamma):
    x, y, log_a, log_b, phi, gamma, to_phi, to_gamma = (
        value.astype(np.float64) for value in (x, y, log_a, log_b, phi, gamma, to_phi, to_gamma)
    )
    marginals = Marginals(log_a, log_b, tau_a, tau_b)
    found = slopes(x, y, scale * float(epsilon), marginals, (phi, gamma), (to_phi, to_gamma))
    return found.x, found.y, found.log_a, found.log_b, np.asarray(found.log_epsilon / float(epsilon))
