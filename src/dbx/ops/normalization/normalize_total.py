"""Library-size normalisation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks, is_dask
from dbx.data.moments import whole_parts
from dbx.ops.arrays import as_float, divide_rows, row_sums
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent


class NormalizeTotal(Operator):
    """Scale each cell to the same total; a query is scaled to that of the reference.

    With ``exclude_highly_expressed`` genes that hold more than ``max_fraction`` of the counts of any fitted cell are
    excluded from totals; the list of these genes is kept. Trainable are the exponent of the total by which a cell is
    divided (initially 1; at 0 cells are not scaled) and the logarithm of a common factor (initially 0), which acts like
    a pseudo-count in a logarithm that follows.

    New cells: scaled to the reference's target sum.
    """

    name = "normalize_total"
    inputs = {"x": Input(genes=True, content=("counts", "normalized"), empty_cells="warn")}
    outputs = {"x": Output(dtype=None, content="normalized"), "counts_per_cell": Output(dtype=None)}
    rowwise = True
    sparse = True
    host = True

    def __init__(
        self, *, target_sum: float | None = None, exclude_highly_expressed: bool = False, max_fraction: float = 0.05
    ):
        self.target_sum = target_sum
        self.exclude_highly_expressed = exclude_highly_expressed
        self.max_fraction = max_fraction
        self.power, self.log_factor = nnx.Param(as_float(1.0)), nnx.Param(as_float(0.0))

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Find the genes to include and the median total of the cells that have counts."""
        kept = None
        if self.exclude_highly_expressed:
            kept = ~highly_expressed(x, self.max_fraction)
            self.kept = Constant(kept)
        self.n_empty = Constant(np.asarray(0))
        if self.target_sum is not None and is_dask(x.source):
            self.depth = Constant(np.asarray(self.target_sum, np.float64))
            return
        totals = np.concatenate([row_sums(part, kept) for _, _, part in whole_parts(x)])
        self.n_empty = Constant(np.asarray(np.count_nonzero(totals <= 0)))
        if self.target_sum is None and not (totals > 0).any():
            msg = "normalize_total finds no cell with any counts, so there is no median total to scale to."
            raise ValueError(msg)
        depth = np.median(totals[totals > 0]) if self.target_sum is None else self.target_sum
        self.depth = Constant(np.asarray(depth, np.float64))

    def __call__(self, x):
        kept = self.kept[...] if self.exclude_highly_expressed else None
        totals = row_sums(x, kept)
        factors = totals / self.depth[...].astype(totals.dtype)
        return {"x": divide_rows(x, self._divisors(factors + (factors == 0))), "counts_per_cell": factors}

    def counted_totals(self, x: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Each cell sums to the target, unless training changed by what cells are divided."""
        if float(self.power[...]) != 1 or float(self.log_factor[...]) != 0:
            return None
        kept = np.asarray(self.kept[...]) if self.exclude_highly_expressed else slice(None)
        return x[:, kept].sum(axis=1), float(self.depth[...])

    def _divisors(self, factors):
        """The divisors of the cells; exactly the factors if nothing was trained."""
        power, log_factor = self.power[...], self.log_factor[...]
        if isinstance(factors, jax.Array):
            return factors ** power.astype(factors.dtype) * jnp.exp(-log_factor).astype(factors.dtype)
        if float(power) == 1 and float(log_factor) == 0:
            return factors
        return factors ** np.asarray(power, factors.dtype) * np.exp(-np.asarray(log_factor, factors.dtype))


def highly_expressed(x: RowBlocks, max_fraction: float) -> np.ndarray:
    """Whether a gene holds more than a fraction of any cell's counts, an array of shape (n_genes,), bool."""
    found = np.zeros(x.n_columns, dtype=bool)
    for _, _, part in whole_parts(x):
        limit = row_sums(part).astype(np.float64) * max_fraction
        if isinstance(part, np.ndarray):
            found |= (part > limit[:, None]).any(axis=0)
        else:
            found[part.indices[part.data > np.repeat(limit, np.diff(part.indptr))]] = True
    return found
