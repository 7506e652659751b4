"""Square root."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import with_values
from dbx.ops.operator import Input, Operator, Output, Progress, silent


class Sqrt(Operator):
    """x -> square root of x; no parameters.

    New cells: the same function; it has no parameters.
    """

    name = "sqrt"
    inputs = {"x": Input(genes=True, content=("counts", "normalized", "log"))}
    outputs = {"x": Output(dtype=None)}
    rowwise = True
    sparse = True
    host = True

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Nothing to fit."""

    def __call__(self, x):
        if sparse.issparse(x):
            return {"x": with_values(x, np.sqrt(x.data))}
        return {"x": jnp.sqrt(x) if isinstance(x, jax.Array) else np.sqrt(x)}
