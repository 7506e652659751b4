"""Gradients in every parameter and float input agree with finite differences in float64."""

import jax
import numpy as np
import pytest

from contract.differentiated import differentiated
from contract.example import Example, fitted
from contract.promise import each


def check(example: Example) -> None:
    """Discrete choices (neighbours, ranks) are as they are: a step this small does not change them."""
    fitted(example).operator.check_differentiable()
    with jax.enable_x64(True):
        function = differentiated(example)
        assert jax.tree.leaves(function.point), f"{example} has nothing to take a gradient in"
        point, unravel = jax.flatten_util.ravel_pytree(function.point)
        gradient = jax.flatten_util.ravel_pytree(function.gradient(function.point))[0]
        moves = movable(example, function.point)
        rng = np.random.default_rng(1)
        for _ in range(3):
            direction = rng.normal(size=point.shape) * moves
            analytic = float(gradient @ direction)
            assert np.isfinite(analytic)

            def at(step, direction=direction):
                return float(function.evaluate(unravel(point + step * direction))[0])

            steps = np.array([1e-6, 1e-7, 1e-8]) / np.abs(direction).max()
            # kinks (rectifiers, another neighbour) may be within the first steps; a wrong gradient is so at each
            assert any(agree(analytic, at(step), at(-step), step) for step in steps), f"{analytic} is no derivative"


def agree(analytic: float, up: float, down: float, step: float) -> bool:
    """Central differences of a float64 function: relative error about 1e-16 / step of its value."""
    return np.isclose(analytic, (up - down) / (2 * step), rtol=2e-4, atol=1e-14 * max(abs(up), 1) / step)


def movable(example: Example, point) -> np.ndarray:
    """1 for numbers whose gradient is the derivative, 0 for those with a declared surrogate."""
    params, floats = point
    ones = {name: np.full(value.shape, float(name not in example.surrogates)) for name, value in params.items()}
    return np.asarray(jax.flatten_util.ravel_pytree((ones, jax.tree.map(np.ones_like, floats)))[0])


@each(lambda example: example.maps_cells and example.differentiable)
def test_gradients_agree_with_finite_differences(example):
    check(example)


@each(lambda example: not example.differentiable)
def test_what_has_no_gradient_says_so(example):
    with pytest.raises(ValueError, match="no gradient"):
        fitted(example).operator.check_differentiable()
