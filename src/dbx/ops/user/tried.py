"""How a function can be run, found by trying it on a few cells: on CSR, by JAX, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import jax
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.user.function import Function, whole
from dbx.ops.values import Codes

N_TRIED = 64
"""Cells on which a function is tried before it is applied to all."""


def made(config: Mapping[str, Any]) -> Function:
    """The operator of a configuration."""
    return cast(Function, Function.declared(config)(**config))


def tried(config: Mapping[str, Any], fit: Mapping[str, Any], call: Mapping[str, Any], n_cells: int) -> Function:
    """The operator, fitted, with what was found about its function in its configuration.

    ``fit`` and ``call`` are what an operator with these inputs is fitted on and called with.
    """
    n = min(N_TRIED, n_cells)
    stored = any(isinstance(x, RowBlocks) and sparse.issparse(x.source) for x in call.values())
    try:
        fitted, result = _on_few({**config, "sparse": stored}, fit, call, n)
    except Exception:
        if not stored:
            raise
        fitted, result = _on_few({**config, "sparse": False}, fit, call, n)  # it may take dense arrays only
    compiled = any(isinstance(value, jax.Array) for value in result.values())
    found = {
        "sparse": fitted.sparse and not compiled,
        "compiled": compiled,
        "traced": _is_traced(fitted, call, n),
        "by_cell": _is_by_cell(fitted, call, n),
    }
    operator = made({**config, **found})
    operator.take_state(fitted)
    return operator


def _on_few(config, fit, call, n: int) -> tuple[Function, dict[str, Any]]:
    operator = made(config)
    operator.fit(**fit)
    return operator, operator(**_some(operator, call, n))


def _some(operator: Function, call: Mapping[str, Any], n: int) -> dict[str, Any]:
    return whole(call, slice(0, n), sparse=operator.sparse)


def _is_traced(operator: Function, call: Mapping[str, Any], n: int) -> bool:
    try:
        jax.eval_shape(lambda arrays: operator.on_dense(**arrays), whole(call, slice(0, n), sparse=False))
    except Exception:  # noqa: BLE001 - NumPy, and the user's own code, may raise anything
        return False
    return True


def _is_by_cell(operator: Function, call: Mapping[str, Any], n: int) -> bool:
    """Whether half of the cells get the same results without the other half."""
    try:
        all_, half = (operator(**_some(operator, call, size)) for size in (n, max(n // 2, 1)))
    except Exception:  # noqa: BLE001 - as above
        return False
    return n > 1 and all(_same_rows(all_[name], value) for name, value in half.items())


def _same_rows(several: Any, few: Any) -> bool:
    if isinstance(few, Codes):
        names = [np.asarray(codes.levels, dtype=object)[np.asarray(codes.codes)] for codes in (several, few)]
        return bool((names[0][: len(few)] == names[1]).all())
    several, few = (x.toarray() if sparse.issparse(x) else np.asarray(x) for x in (several, few))
    return bool(np.allclose(several[: len(few)], few, rtol=1e-5, atol=1e-6, equal_nan=True))
