"""What every operator in the catalogue promises; a new one joins by its line there."""

from __future__ import annotations

import zlib

import anndata as ad
import dask.array as da
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from contract import (
    LACKS,
    N_CELLS,
    SURROGATES,
    assert_bitwise,
    assert_close,
    example,
    fitted,
    leaves,
    maps_cells,
    material,
    on_device,
)
from flax import nnx
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.apply import take
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.state import attach_references, rebuild, reference_values, state_arrays
from dbx.ops.values import Codes, Edges, Graph
from dbx.program.record.outputs import views

NAMES = list(CATALOGUE)
MAPPING = [name for name in NAMES if maps_cells(name)]
ROWWISE = [name for name in MAPPING if CATALOGUE[name].rowwise]
OF_GENES = [name for name in NAMES if any(port.genes for port in CATALOGUE[name].inputs.values())]


@pytest.mark.parametrize("name", NAMES)
def test_what_it_declares_is_what_it_has(name):
    operator = example(name).operator
    assert operator.name == name
    outputs = example(name).outputs() if maps_cells(name) else {}
    assert set(outputs) == {key for key, output in operator.outputs.items() if not output.view}
    declared = {key for key, output in operator.outputs.items() if output.view}
    assert set(views(operator)) == declared - LACKS.get(name, set())
    assert set(operator.references.values()) <= set(operator.inputs) | set(operator.outputs)


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
@pytest.mark.parametrize("name", NAMES)
def test_configuration_and_arrays_alone_build_it_again(name, kind, tmp_path):
    made = example(name)
    arrays = state_arrays(made.operator)
    holder = ad.AnnData(uns={"state": {key: np.atleast_1d(array) for key, (_, array) in arrays.items()}})
    getattr(holder, f"write_{kind}")(tmp_path / f"state.{kind}")
    state = getattr(ad, f"read_{kind}")(tmp_path / f"state.{kind}").uns["state"]
    back = {k: (what, np.asarray(state[k], a.dtype).reshape(a.shape)) for k, (what, a) in arrays.items()}
    again = rebuild(CATALOGUE[name], made.operator.config, back)
    attach_references(again, reference_values(made.operator))
    assert again.config == made.operator.config
    assert_bitwise(views(made.operator), views(again))
    if maps_cells(name):
        assert_bitwise(made.outputs(), type(made)(again, made.fit, made.call).outputs())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_bits(name):
    one, two = example(name), fitted(name)
    assert_bitwise(views(one.operator), views(two.operator))
    if maps_cells(name):
        assert_bitwise(one.outputs(), two.outputs())


@pytest.mark.parametrize("name", MAPPING)
def test_jit_changes_nothing_but_rounding(name):
    made = example(name)
    graphdef, state = nnx.split(made.operator)
    call = on_device(made.call)
    compiled = jax.jit(lambda s, c: nnx.merge(graphdef, s)(**c))(state, call)
    assert_close(made.operator(**call), compiled, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ROWWISE)
def test_a_row_does_not_depend_on_its_neighbours_in_the_block(name):
    made = example(name)
    whole = made.outputs()
    order = np.random.default_rng(0).permutation(N_CELLS)
    shuffled = made.outputs({key: rows_of(value, order) for key, value in made.call.items()})
    part = made.outputs({key: rows_of(value, order[:37]) for key, value in made.call.items()}, 37)
    for key, value in whole.items():
        # other block heights may be summed in another order
        assert_close({key: taken(value, order)}, {key: taken(shuffled[key], slice(None))}, rtol=1e-4, atol=1e-5)
        assert_close({key: taken(value, order[:37])}, {key: taken(part[key], slice(None))}, rtol=1e-4, atol=1e-5)


def rows_of(value, index):
    if isinstance(value, Edges):
        return Edges(value.matrix[index], value.rows[index])
    return RowBlocks(value.rows(index), dtype=value.dtype) if isinstance(value, RowBlocks) else take(value, index)


def taken(value, index):
    """Rows of an output in a form that does not depend on how a graph is padded."""
    if isinstance(value, Graph):
        value = sparse.csr_matrix(Graph(value.indices, value.weights, value.rows, value.n_reference).to_csr())
    return value[index] if sparse.issparse(value) else take(value, index)


@pytest.mark.parametrize("name", MAPPING)
def test_gradients_agree_with_finite_differences(name):
    """In float64, with discrete choices (neighbours, ranks) as they are: a step this small does not change them."""
    made = example(name)

    def derived(path, variable):
        return isinstance(variable, nnx.Param) and path[-1] not in SURROGATES.get(name, ())

    with jax.enable_x64(True):
        graphdef, params, rest = nnx.split(made.operator, derived, ...)
        params, rest = double(params), double(rest)
        call = double(on_device(made.call))
        all_leaves, shape = jax.tree.flatten(call)
        weights = {}

        def objective(params, floats):
            inputs = jax.tree.unflatten(shape, [floats.get(str(i), leaf) for i, leaf in enumerate(all_leaves)])
            outputs = nnx.merge(graphdef, params, rest, copy=True)(**inputs)
            total = 0.0
            for key, output in outputs.items():
                for i, leaf in enumerate(jax.tree.leaves(output)):
                    if jnp.issubdtype(leaf.dtype, jnp.floating):
                        seeded = np.random.default_rng(zlib.crc32(f"{key}{i}".encode()))
                        weight = weights.setdefault((key, i), seeded.normal(size=leaf.shape))
                        total = total + (leaf * weight).sum()
            return total

        floats = {str(i): leaf for i, leaf in enumerate(all_leaves) if jnp.issubdtype(leaf.dtype, jnp.floating)}
        assert jax.tree.leaves((params, floats)), f"{name} has nothing to take a gradient in"
        point, unravel = jax.flatten_util.ravel_pytree((params, floats))
        gradient = jax.flatten_util.ravel_pytree(jax.grad(lambda p: objective(*unravel(p)))(point))[0]
        rng = np.random.default_rng(1)
        for _ in range(3):
            direction = rng.normal(size=point.shape)
            step = 1e-6 / np.abs(direction).max()
            up, down = (objective(*unravel(point + s * step * direction)) for s in (1, -1))
            numeric = float(up - down) / (2 * step)
            analytic = float(gradient @ direction)
            assert np.isfinite(analytic)
            # central differences of a float64 function: relative error about 1e-16 / 1e-6 of its value
            np.testing.assert_allclose(analytic, numeric, rtol=2e-4, atol=1e-8 * max(abs(float(up)), 1) / step * 1e-6)


def double(tree):
    def one(leaf):
        return jnp.asarray(leaf, jnp.float64) if jnp.issubdtype(jnp.asarray(leaf).dtype, jnp.floating) else leaf

    return jax.tree.map(one, tree)


@pytest.fixture(scope="module")
def on_disk(tmp_path_factory):
    """Wraps a matrix as a backed h5ad's X."""
    folder = tmp_path_factory.mktemp("backed")

    def wrap(x):
        path = folder / f"{len(list(folder.iterdir()))}.h5ad"
        ad.AnnData(sparse.csr_matrix(x)).write(path)
        return ad.read_h5ad(path, backed="r").X

    return wrap


KINDS = {
    "dense": np.asarray,
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "float64": lambda x: x.astype(np.float64),
    "dask": lambda x: da.from_array(x, chunks=(50, x.shape[1])),
    "dask_csr": lambda x: da.from_array(x, chunks=(50, x.shape[1])).map_blocks(sparse.csr_matrix),
    "backed": None,
    "int": None,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", OF_GENES)
def test_every_kind_of_array_gives_the_same(name, kind, on_disk):
    if kind == "int":  # whole numbers, whatever the operator is usually given
        one, two = (
            fitted(name, lambda _, t=t: sparse.csr_matrix(material()["counts"].astype(t))) for t in ("f4", "i8")
        )
    else:
        one, two = example(name), fitted(name, KINDS[kind] or on_disk)
    # sums over blocks and over sparse rows are taken in another order; float32 in, float32 out
    tolerance = {"rtol": 5e-4, "atol": 1e-4}
    assert_close(views(one.operator), views(two.operator), **tolerance)
    if maps_cells(name):
        a, b = one.outputs(), two.outputs()
        b = {key: value.compute() if hasattr(value, "compute") else value for key, value in b.items()}
        assert_close(a, b, **tolerance)


def test_codes_and_graphs_are_leaves_of_jax_trees():
    graph = Graph(np.zeros((2, 1), np.int32), np.ones((2, 1)), np.arange(2), 2)
    codes = Codes(np.zeros(2, np.int32), ("a",))
    assert len(leaves(graph)) == 3
    assert len(leaves(codes)) == 1
