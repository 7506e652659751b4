"""Plain arrays instead of an AnnData: handled as in scanpy, and not recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks, is_dask
from dbx.ops.apply import apply
from dbx.ops.operator import Operator
from dbx.program import check_not_empty


def is_array(data: Any) -> bool:
    """A NumPy, SciPy or dask array rather than an AnnData or MuData."""
    return isinstance(data, np.ndarray) or sparse.issparse(data) or is_dask(data)


def on_array(operator: Operator, x: Any, *, copy: bool, **others: Any) -> Any:
    """The output ``x`` of an operator fitted on a plain array, with any number of axes, in the array's float dtype.

    As in scanpy, floating-point numbers are changed in place unless ``copy`` is true, and integers become float64.
    """
    check_not_empty(x)
    values = x if x.dtype.kind == "f" else x.astype(np.float64)
    blocks = RowBlocks(values if values.ndim == 2 else values.reshape(len(values), -1))
    operator.fit(x=blocks, **others)
    result = apply(operator, {"x": blocks, **others}, blocks.n_rows)["x"]
    result = result.asformat(x.format) if sparse.issparse(result) else result.reshape(x.shape)
    if copy or values is not x or type(result) is not type(x) or is_dask(x):
        return result
    if sparse.issparse(x):
        x.data, x.indices, x.indptr = result.data, result.indices, result.indptr
    else:
        x[...] = result
    return x


def refuse_for_arrays(**arguments: Any) -> None:
    """Raise a TypeError or ValueError for arguments that need an AnnData."""
    given = [f"`{name}`" for name, value in arguments.items() if value is not None]
    if given:
        msg = f"{', '.join(given)} can only be used with an AnnData or MuData, not with a plain array."
        raise TypeError(msg)
