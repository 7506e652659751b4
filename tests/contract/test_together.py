"""Of all fitted cells at once: the stored results, with derivatives in float inputs where each cell has its place."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from contract.differentiated import double, weighted
from contract.example import Example, fitted, on_device
from contract.promise import each
from dbx.ops.operator import Operator
from dbx.ops.values import Graph


def check(example: Example) -> None:
    """Against finite differences in float64, with neighbours held fixed; unlinked cells have no edge to move."""
    made = fitted(example)
    with jax.enable_x64(True):
        graphdef, state = nnx.split(made.operator)
        state, leaves, tree = double(state), *jax.tree.flatten(double(on_device(made.call)))
        moving = {i: x for i, x in enumerate(leaves) if jnp.issubdtype(x.dtype, jnp.floating)}

        @jax.jit
        def outputs(moving):
            call = jax.tree.unflatten(tree, [moving.get(i, x) for i, x in enumerate(leaves)])
            return nnx.merge(graphdef, state, copy=True).together(**call)

        def number(moving):
            found = outputs(moving)
            reached = {name: jnp.where(jnp.isfinite(found[name]), found[name], 0) for name in example.infinite}
            return weighted({**found, **reached})

        for name, value in outputs(moving).items():
            expected = made.outputs()[name]
            if not isinstance(value, Graph):  # float32 is what is stored, up to the size of the coordinates
                np.testing.assert_allclose(value, expected, rtol=1e-5, atol=1e-6, err_msg=name)
        slopes = jax.jit(jax.grad(number))(moving)
        rng = np.random.default_rng(0)
        direction = {i: rng.normal(size=x.shape) * (np.asarray(x) != 0) for i, x in moving.items()}
        analytic = sum(float((slopes[i] * move).sum()) for i, move in direction.items())
        step = 1e-6
        up, down = (float(number({i: x + s * direction[i] for i, x in moving.items()})) for s in (step, -step))
    assert abs(analytic) > 1e-3
    np.testing.assert_allclose(analytic, (up - down) / (2 * step), rtol=1e-4)


@each(lambda example: example.cls.together is not Operator.together)
def test_all_cells_at_once_have_a_derivative(example):
    check(example)
