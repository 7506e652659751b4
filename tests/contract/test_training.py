"""One step of an optimiser in each parameter changes what the operator gives, or the example says why not."""

import jax
import numpy as np
import optax

from contract.differentiated import differentiated
from contract.example import Example, fitted
from contract.promise import each

RATES = (1e-2, 1.0, 100.0)
"""A gate that is wide open or shut does not move by a small step."""


def check(example: Example) -> None:
    """With the noise that a training adds, which gates need to have a gradient at all."""
    with jax.enable_x64(True):
        function = differentiated(example)
        params, floats = function.point
        noise = fitted(example).operator.jitter(jax.random.key(0))
        params = {name: value + noise.get(name, 0) for name, value in params.items()}
        before = float(function.evaluate((params, floats))[0])
        slopes = function.gradient((params, floats))[0]
        assert all(np.isfinite(slope).all() for slope in slopes.values())

        def moves(name: str, rate: float) -> bool:
            optimiser = optax.adam(rate)
            update, _ = optimiser.update(slopes[name], optimiser.init(params[name]))
            after = float(function.evaluate(({**params, name: params[name] + update}, floats))[0])
            assert rate > RATES[0] or np.isfinite(after), f"not finite after a step in {name}"
            return after != before

        idle = {name for name in params if not any(moves(name, rate) for rate in RATES)}
    explained = tuple(name for name in example.idle if name not in example.reads)
    unexplained = {name for name in idle if not name.startswith(explained)}
    assert not unexplained, f"a step in {sorted(unexplained)} changes nothing"
    assert all(any(name.startswith(known) for name in idle) for known in explained), "an explanation too many"


@each(lambda example: example.maps_cells)
def test_a_step_in_every_parameter_changes_something(example):
    check(example)
