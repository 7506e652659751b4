"""Counts drawn at random from those of cells."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.ops.checks import check_whole
from dbx.pp._downsampling import DownsampleCounts
from dbx.program import resolve_seed, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def downsample_counts(
    adata: AnnData | MuData,
    counts_per_cell: int | Collection[int] | None = None,
    total_counts: int | None = None,
    *,
    random_state: int | np.random.RandomState | None = 0,
    replace: bool = False,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Draw counts at random, so that cells have at most so many.

    scanpy's function draws, with the same counts for the same seed (in the order of genes, where a sparse matrix is
    stored in another). One number of ``counts_per_cell`` is a rule: ``dbx.rerun`` draws the counts of new cells in the
    same way. A number for each cell and ``total_counts`` hold for the cells at hand only, and ``dbx.rerun`` refuses new
    cells, unless they start after the step. As :func:`scanpy.pp.downsample_counts`.

    Parameters
    ----------
    adata
        Annotated data with raw counts; dense, sparse or (with one number for each cell, staying lazy) dask.
    counts_per_cell
        Most counts of a cell: one number, or one for each cell. Cells that have no more are left as they are.
    total_counts
        Most counts of all cells together, instead of ``counts_per_cell``.
    random_state
        Seed.
    replace
        Draw with replacement.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy if ``copy=True``. Sets:

    ``adata.X``
        The counts that were drawn, in the dtype of ``adata.X``. Sparse stays sparse, as CSR.

    Raises
    ------
    ValueError
        Neither or both of ``counts_per_cell`` and ``total_counts`` were given, one is not a whole number or below 0,
        there is not one for each cell, or ``adata.X`` does not hold raw counts.
    NotImplementedError
        The data are on disk, or counts of a dask array are not drawn cell by cell.
    """
    if (counts_per_cell is None) is (total_counts is None):
        given = "neither was given" if total_counts is None else "got both"
        msg = f"Must specify exactly one of `total_counts` or `counts_per_cell`; {given}."
        raise ValueError(msg)
    seed = resolve_seed(random_state)
    if not 0 <= seed < 2**32:
        msg = f"random_state must be from 0 to 2**32 - 1; got {seed}."
        raise ValueError(msg)
    settings = {
        "counts_per_cell": None if counts_per_cell is None else checked(counts_per_cell),
        "total_counts": total_counts if total_counts is None else whole(total_counts, "total_counts"),
        "replace": bool(replace),
    }
    operator = DownsampleCounts.declared(settings)(**settings)
    return run_step(adata, operator, reads={"x": "X"}, writes={"x": "X"}, seed=seed, copy=copy, mod=mod)


def checked(counts_per_cell: Any) -> int | tuple[int, ...]:
    """Numbers of counts as whole numbers: one, or one for each cell."""
    if np.ndim(counts_per_cell) == 0:
        return whole(counts_per_cell, "counts_per_cell")
    numbers = np.asarray(counts_per_cell)
    wrong = numbers.dtype.kind not in "iuf" or numbers.ndim != 1 or not (numbers >= 0).all()
    if wrong or not np.array_equal(numbers, np.trunc(numbers)) or not np.isfinite(numbers).all():
        msg = (
            "counts_per_cell must be a whole number of at least 0, or one for each cell in an array with one "
            f"dimension; got {counts_per_cell!r}."
        )
        raise ValueError(msg)
    return tuple(numbers.astype(np.int64).tolist())


def whole(value: Any, name: str) -> int:
    """A number of counts as an int."""
    check_whole(value, 0, name)
    return int(value)
