"""Levels that were not there at the fit, and cells without a level, are treated as the input declares."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx
from contract.cells import N_NEW
from contract.compare import assert_bitwise, assert_close, differ, finite, leaves, state
from contract.example import Example, as_tuple, fit, fitted, fitted_cells, new_call, new_cells
from contract.promise import examples, parameter
from contract.recorded import record, recorded, stored
from dbx.ops.state import state_arrays
from dbx.ops.values import Codes, Graph
from dbx.program.record.registry import load

SOME = np.arange(5)
"""Rows of the cells that are changed."""


def columns_of(example: Example) -> list[tuple[str, str]]:
    """(input, column of ``obs``) of each categorical column that the example reads."""
    obs = fitted_cells().obs
    found = [(name, slot.split("/")[1]) for name, slots in example.columns.items() for slot in as_tuple(slots)]
    return [(name, key) for name, key in found if obs[key].dtype.kind != "f"]


def each_column(holds_for=lambda example: True):
    chosen = [e for e in examples() if holds_for(e)]
    cases = [parameter(e, name, key, title=f"{name}-{key}") for e in chosen for name, key in columns_of(e)]
    return pytest.mark.parametrize(("example", "name", "key"), cases)


def changed(data: ad.AnnData, key: str, value: str | None, rows=SOME) -> ad.AnnData:
    """The data with another level, or none, in some cells."""
    column = data.obs[key].astype(object).copy()
    column.iloc[rows] = value
    data.obs[key] = pd.Categorical(column) if data.obs[key].dtype != bool or value else column
    return data


def as_known(example: Example, data: ad.AnnData, key: str) -> dict:
    """What the operator is called with where unseen levels are -1."""
    known = fitted_cells().obs[key].astype("category").cat.categories
    plain = data.copy()
    plain.obs[key] = pd.Categorical(plain.obs[key].astype(object), categories=known)
    return new_call(example, plain)


def with_own_code(example: Example, data: ad.AnnData, name: str, key: str) -> dict:
    """What the operator is called with where an unseen level has the code after those that are known."""
    call = as_known(example, data, key)
    known = call[name].codes
    return {**call, name: Codes(np.where(known < 0, call[name].n_levels, known), (*call[name].levels, "never seen"))}


def check_unseen(example: Example, name: str, key: str) -> None:
    rule = example.cls.inputs[name].unseen
    reference, data = recorded(example), changed(new_cells(), key, "never seen")
    if rule == "raise":
        with pytest.raises(ValueError, match="never seen"):
            dbx.rerun(data, reference)
        assert "dbx" not in data.uns
        return
    if rule == "new":
        dbx.rerun(data, reference)
        check_outputs(example, data, fitted(example).outputs(with_own_code(example, data, name, key), N_NEW))
        return
    if rule == "missing":
        dbx.rerun(data, reference)
        expected = fitted(example).outputs(as_known(example, data, key), N_NEW)
        check_outputs(example, data, expected)
        check_no_other_level(example, key)
    else:
        with pytest.warns(UserWarning, match=rf"takes 'never seen' of obs\['{key}'\] as new"):
            dbx.rerun(data, reference)
        check_extended(example, name, key, data, reference)


def check_no_other_level(example: Example, key: str) -> None:
    """Where the call looks at the level, one that is not known is taken for neither the first nor the last."""
    levels = fitted_cells().obs[key].astype("category").cat.categories

    def all_of(level: str):
        data = changed(new_cells(), key, level, slice(None))
        return fitted(example).outputs(as_known(example, data, key), N_NEW)

    first, last, unknown = map(all_of, (levels[0], levels[-1], "never seen"))
    if differ(first, last):
        assert differ(unknown, first), "an unknown level is taken for the first"
        assert differ(unknown, last), "an unknown level is taken for the last"


def unpadded(value):
    return value.to_csr() if isinstance(value, Graph) else value


def check_outputs(example: Example, data: ad.AnnData, expected: dict) -> None:
    found = {name: value for name, value in stored(example, data, cells=True).items() if name in expected}
    whole = {name: value for name, value in found.items() if name not in example.infinite}
    assert finite({name: value for name, value in whole.items() if not hasattr(value, "cat")})
    codes = {name: value.codes if isinstance(value, Codes) else unpadded(value) for name, value in expected.items()}
    found = {name: value.cat.codes.to_numpy() if hasattr(value, "cat") else value for name, value in found.items()}
    assert_close(codes, found, rtol=1e-6, atol=1e-7)


def check_extended(example: Example, name: str, key: str, data: ad.AnnData, reference: ad.AnnData) -> None:
    """Only cells of the new level get something else; the state grew, and the reference's did not.

    In tissue the cells that lose a neighbour to another slice do as well.
    """
    plain = new_cells()
    dbx.rerun(plain, reference)
    others = np.setdiff1d(np.arange(N_NEW), SOME)
    found = (stored(example, cells, cells=True) for cells in (plain, data))
    one, two = ({k: leaves(v)[0] for k, v in some.items() if not sparse.issparse(v)} for some in found)
    assert finite(two)
    if not example.cls.in_space:
        before, after = ({k: v[others] for k, v in some.items()} for some in (one, two))
        assert_close(before, after, rtol=1e-4, atol=1e-5)  # adding columns of weights changes the order of sums
    learnt = {k: v[SOME] for k, v in two.items()}
    unknown = fitted(example).outputs(as_known(example, data, key), N_NEW)
    unknown = {k: v.codes if isinstance(v, Codes) else v for k, v in unknown.items()}
    assert differ({k: v[SOME] for k, v in one.items()}, learnt)
    # without an extra fit a new level is a missing one; a fit moves float32 by more than its rounding
    assert not close({k: unknown[k][SOME] for k in learnt}, learnt), "nothing was learnt of the new level"
    sizes = [sum(a.size for _, a in load(d)["step"].arrays.values()) for d in (reference, data)]
    assert sizes[1] > sizes[0]
    made = fitted(example).operator
    assert sum(a.size for _, a in state_arrays(made).values()) == sizes[0]


def close(a: dict, b: dict) -> bool:
    return all(np.allclose(a[name], b[name], rtol=1e-5, atol=1e-6) for name in a)


@each_column(lambda example: example.maps_cells)
def test_an_unseen_level_is_treated_as_declared(example, name, key):
    check_unseen(example, name, key)


def alike(a: dict, b: dict) -> set[str]:
    """What has the same float values in both."""
    return {name for name in a if is_float(a[name]) and not differ({name: a[name]}, {name: b[name]})}


def is_float(value) -> bool:
    return getattr(value, "dtype", np.dtype(bool)).kind == "f" and np.size(value) > 1


def check_missing(example: Example, name: str, key: str) -> None:
    data = changed(fitted_cells(), key, None)
    if not example.cls.inputs[name].missing:
        before = data.copy()
        with pytest.raises(ValueError, match=f"{key}.*has 5 missing values"):
            record(example, data)
        assert data.uns.keys() == before.uns.keys() or "step" not in load(data)
        return
    made = fit(example, data=data)
    complete = {name for name, value in state(fitted(example).operator).items() if finite({name: value})}
    complete -= {name for name, port in made.operator.references.items() if port in example.infinite}
    assert finite({name: value for name, value in state(made.operator).items() if name in complete})
    last = changed(fitted_cells(), key, fitted_cells().obs[key].cat.categories[-1])
    taken_for_last = alike(state(made.operator), state(fit(example, data=last).operator))
    assert taken_for_last <= alike(state(made.operator), state(fitted(example).operator)), (
        "-1 is taken for the last level"
    )
    record(example, data)
    assert_bitwise(outputs_of(load(data)["step"].arrays), outputs_of(state_arrays(made.operator)))


def outputs_of(arrays) -> dict:
    return {name: array for name, (_, array) in arrays.items()}


@each_column()
def test_a_missing_value_is_refused_or_left_out_as_declared(example, name, key):
    check_missing(example, name, key)


def check_missing_in_query(example: Example, name: str, key: str) -> None:
    reference, data = recorded(example), changed(new_cells(), key, None)
    if not example.cls.inputs[name].missing:
        with pytest.raises(ValueError, match="missing values"):
            dbx.rerun(data, reference)
        return
    dbx.rerun(data, reference)
    check_outputs(example, data, fitted(example).outputs(as_known(example, data, key), N_NEW))


@each_column(lambda example: example.maps_cells)
def test_a_missing_value_of_a_new_cell_is_refused_or_left_out_as_declared(example, name, key):
    check_missing_in_query(example, name, key)
