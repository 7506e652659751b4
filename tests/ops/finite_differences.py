"""Derivatives along random directions beside central differences."""

from collections.abc import Iterator

import jax
import numpy as np

STEP = 1e-5


def along_directions(number, point: tuple, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    """For each argument of a function of arrays its derivative along a random direction, and the difference there."""
    for k, slope in enumerate(jax.grad(number, argnums=range(len(point)))(*point)):
        direction = rng.normal(size=point[k].shape)
        ups, downs = ([*point[:k], point[k] + s * direction, *point[k + 1 :]] for s in (STEP, -STEP))
        yield float((slope * direction).sum()), float(number(*ups) - number(*downs)) / (2 * STEP)
