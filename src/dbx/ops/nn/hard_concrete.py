"""The hard concrete gate (Louizos, Welling and Kingma, ICLR 2018): a stretched logistic clipped to [0, 1].

Adding logistic noise to ``log_alpha`` makes the gate a random variable that is 0 and 1 with positive probability and
differentiable in between; without noise it is that variable's median. The formulas are the paper's, with the noise
inside its sigmoid; at test time the paper leaves the temperature out.
"""

from __future__ import annotations

import math
from typing import overload

import jax
import jax.numpy as jnp
import numpy as np

LOW, HIGH = -0.1, 1.1
"""Interval to which the logistic is stretched before it is clipped; symmetric about a half."""
TEMPERATURE = 2 / 3


def gate(log_alpha, temperature: float | jax.Array = TEMPERATURE):
    """The gate in [0, 1], of the shape of ``log_alpha``."""
    return jnp.clip(jax.nn.sigmoid(log_alpha / temperature) * (HIGH - LOW) + LOW, 0, 1)


def noise(key, shape: tuple[int, ...]):
    """Standard logistic noise, to be added to ``log_alpha``."""
    return jax.random.logistic(key, shape)


def probability_open(log_alpha, temperature: float | jax.Array = TEMPERATURE):
    """Probability that the gate with noise is not zero; their sum is the expected L0 norm."""
    return jax.nn.sigmoid(log_alpha + edge(temperature))


def log_alpha_of(probability, temperature: float = TEMPERATURE) -> np.ndarray:
    """The ``log_alpha`` of a gate that is open with this probability."""
    return np.log(probability / (1 - probability)) - edge(temperature)


@overload
def edge(temperature: float = TEMPERATURE) -> float: ...
@overload
def edge(temperature: jax.Array) -> jax.Array: ...
def edge(temperature: float | jax.Array = TEMPERATURE) -> float | jax.Array:
    """Without noise the gate is 1 from this ``log_alpha`` on, and 0 up to the negative of it."""
    return temperature * math.log(-HIGH / LOW)
