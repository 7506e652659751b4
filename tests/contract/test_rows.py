"""What a cell gets does not depend on the cells it is called with: the state stands for the fitted ones.

This holds for operators that do not declare ``rowwise`` as well: the declaration is about blocks and minibatches. It
forbids to centre by the mean of whatever cells are in the call. Where neighbours in tissue are averaged (``in_space``)
it holds for their order and for slices.
"""

import numpy as np

from contract.cells import N_FITTED, N_NEW
from contract.compare import assert_close
from contract.example import Example, fitted, new_call, rows_of, taken
from contract.promise import each
from dbx.ops.values import Graph


def check(example: Example) -> None:
    made = fitted(example)
    check_call(made, made.call, N_FITTED)
    check_call(made, new_call(example), N_NEW)


def check_call(made, call, n_cells: int) -> None:
    """Parts are as many as the new cells are, a shape that is compiled already; of those, some among copies."""
    whole = made.outputs(call, n_cells)
    order = np.random.default_rng(0).permutation(n_cells)
    shuffled = made.outputs({key: rows_of(value, order) for key, value in call.items()}, n_cells)
    if made.example.cls.in_space:
        check_slices(made, call, whole, shuffled, order)
        return
    n_some = 37 if n_cells > N_NEW else 13
    among = np.resize(order[:n_some], N_NEW)
    part = made.outputs({key: rows_of(value, among) for key, value in call.items()}, N_NEW)
    for key, value in whole.items():
        # other block heights may be summed in another order
        assert_close({key: taken(value, order)}, {key: taken(shuffled[key], slice(None))}, rtol=1e-4, atol=1e-5)
        some = {key: taken(value, order[:n_some])}
        assert_close(some, {key: taken(part[key], slice(n_some))}, rtol=1e-4, atol=1e-5)


def check_slices(made, call, whole, shuffled, order) -> None:
    """Values follow the order of cells, edges that of both ends; one slice alone gives what it gives among others."""
    assert_rows_of(whole, shuffled, order)
    if "slices" in made.example.columns:
        first = np.flatnonzero(np.asarray(call["slices"].codes) == 0)
        alone = made.outputs({key: rows_of(value, first) for key, value in call.items()}, len(first))
        assert_rows_of(whole, alone, first)


def assert_rows_of(whole, part, rows) -> None:
    for key, value in whole.items():
        if isinstance(value, Graph):
            expected, found = value.to_csr()[rows][:, rows], part[key].to_csr()
        else:
            expected, found = taken(value, rows), taken(part[key], slice(None))
        assert_close({key: expected}, {key: found}, rtol=1e-4, atol=1e-5)


@each(lambda example: example.maps_cells)
def test_a_cell_does_not_depend_on_the_others_in_the_call(example):
    check(example)
