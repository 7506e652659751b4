"""Comparison of whatever operators return."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pandas as pd
from scipy import sparse

from dbx.ops.state import state_arrays
from dbx.ops.values import Edges, Frame, GroupTable


def leaves(value: Any) -> list[np.ndarray]:
    """Arrays of any output."""
    if sparse.issparse(value) or isinstance(value, Edges):
        return [(value.matrix if isinstance(value, Edges) else value).toarray()]
    if isinstance(value, pd.DataFrame):
        return [np.asarray(value.index), *(leaf for name in value for leaf in leaves(value[name]))]
    if isinstance(value, pd.Series | pd.Categorical):
        return [np.asarray(value.cat.codes if hasattr(value, "cat") else value)]
    if getattr(value, "dtype", None) is not None and value.dtype.names:
        return [np.asarray(value[name]) for name in value.dtype.names]
    if isinstance(value, GroupTable):
        return [value.values]
    if isinstance(value, Frame):
        value = {**value.columns, **({} if value.gene is None else {"gene": value.gene})}
    return [np.asarray(leaf) for leaf in jax.tree.leaves(value)]


def assert_bitwise(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        for one, two in zip(leaves(a[name]), leaves(b[name]), strict=True):
            assert one.dtype == two.dtype, f"{name}: {one.dtype} and {two.dtype}"
            np.testing.assert_array_equal(one, two, err_msg=name)


def assert_close(a: dict[str, Any], b: dict[str, Any], *, rtol: float, atol: float) -> None:
    """``atol`` is relative to the largest value."""
    assert a.keys() == b.keys()
    for name in a:
        for one, two in zip(leaves(a[name]), leaves(b[name]), strict=True):
            if one.dtype.kind not in "biuf":
                np.testing.assert_array_equal(one, two, err_msg=name)
                continue
            scale = np.abs(one[np.isfinite(one)]).max(initial=0) if one.dtype.kind == "f" else 0
            np.testing.assert_allclose(one, two, rtol=rtol, atol=atol * max(scale, 1e-30), err_msg=name)


def differ(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether any value of any output is another."""
    pairs = [(one, two) for name in a for one, two in zip(leaves(a[name]), leaves(b[name]), strict=True)]
    return any(
        one.shape != two.shape or not np.array_equal(one, two, equal_nan=one.dtype.kind == "f") for one, two in pairs
    )


def state(operator) -> dict[str, np.ndarray]:
    """Everything it keeps: arrays by name, references with them."""
    found = {name: array for name, (_, array) in state_arrays(operator).items()}
    return found | {
        name: getattr(operator, name).get_value() for name in operator.references if hasattr(operator, name)
    }


def finite(values: dict[str, Any]) -> bool:
    return all(np.isfinite(leaf).all() for value in values.values() for leaf in leaves(value) if leaf.dtype.kind == "f")
