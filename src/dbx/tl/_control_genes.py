"""Control genes of a set of genes: others of similar mean expression, drawn as scanpy draws them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from packaging.version import Version
from scipy import sparse

from dbx.data.blocks import RowBlocks, is_backed, is_dask
from dbx.ops.checks import as_names, listed
from dbx.program import log
from dbx.program.compat import SCANPY

CHUNK = 1 << 22
"""Values added at a time."""


class Draws(NamedTuple):
    """How control genes are drawn."""

    ctrl_as_ref: bool = True
    ctrl_size: int = 50
    gene_pool: Sequence[str] | pd.Index | None = None
    n_bins: int = 25
    seed: int = 0


def present_genes(genes: str | Sequence[str] | pd.Index, var_names: pd.Index, argument: str) -> pd.Index:
    """Those of some genes that there are; the others are warned of by name.

    Raises
    ------
    ValueError
        There are none.
    """
    wanted = pd.Index(as_names(genes, argument))
    missing = wanted.difference(var_names, sort=False)
    found = wanted.intersection(var_names)
    if not len(found):
        some = listed(wanted) if len(wanted) else "an empty list"
        msg = f"None of the genes of {argument} is in var_names ({listed(var_names)}); got {some}."
        raise ValueError(msg)
    if len(missing):
        some = listed(missing)
        log.warn(f"{len(missing)} of {len(wanted)} genes of {argument} are not in var_names and are ignored: {some}.")
    return found


def control_genes(means: pd.Series, genes: pd.Index, draws: Draws) -> pd.Index:
    """Genes drawn from the bins of mean expression in which ``genes`` are; ``means`` are those of the pool.

    Raises
    ------
    ValueError
        A gene of the set is not in the pool, or there is no control gene in any bin.
    """
    outside = genes.difference(means.index, sort=False)
    if len(outside):
        msg = f"gene_pool must contain the scored genes; it lacks {listed(outside)} ({len(outside)})."
        raise ValueError(msg)
    random = np.random.RandomState(draws.seed)
    bins = means.rank(method="min") // int(np.round(len(means) / (draws.n_bins - 1)))
    own = np.zeros(len(bins), bool) if draws.ctrl_as_ref else bins.index.isin(genes)
    controls = pd.Index([], dtype="string")
    for cut in np.unique(bins.loc[genes]):
        candidates = bins[(bins == cut) & ~own].index
        if not len(candidates):
            log.warn(f"There is no control gene for {cut=}: pass a larger gene_pool (it has {len(means)} genes).")
        if draws.ctrl_size < len(candidates):
            candidates = candidates.to_series().sample(draws.ctrl_size, random_state=random).index
        controls = controls.union(candidates.difference(genes) if draws.ctrl_as_ref else candidates)
    if not len(controls):
        cure = "Pass ctrl_as_ref=False, a larger ctrl_size" if draws.ctrl_as_ref else "Pass a smaller n_bins"
        msg = f"There is no control gene in any bin of mean expression. {cure} or a larger gene_pool."
        raise ValueError(msg)
    return controls


def mean_expression(x: Any, columns: np.ndarray) -> np.ndarray:
    """Means of some columns, with the rounding of the installed scanpy, on which ranks of similar means depend."""
    if not x.shape[0]:
        msg = f"The matrix to score is empty: 0 cells x {x.shape[1]} columns."
        raise ValueError(msg)
    if is_backed(x) or is_dask(x):
        return _sums((part for _, _, part in RowBlocks(x).parts()), x.shape[1])[columns] / x.shape[0]
    if sparse.issparse(x):
        older = Version("1.12") > SCANPY  # through SciPy, which adds float32 values in float32
        sums = np.asarray(x.sum(axis=0, dtype="float64")).ravel() if older else _sums([x], x.shape[1])
        return sums[columns] / x.shape[0]
    x = np.asarray(x)
    width = max(CHUNK // max(len(x), 1), 1)
    means = [np.nanmean(_columns(x, columns, at, at + width), axis=0) for at in range(0, len(columns), width)]
    return np.concatenate(means)


def _columns(x: np.ndarray, columns: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Some of the chosen columns: a copy, whose layout differs from that of x itself, unless all are chosen."""
    return x[:, start:stop] if len(columns) == x.shape[1] else x[:, columns[start:stop]]


def _sums(parts: Iterable, n_columns: int) -> np.ndarray:
    """Sums of columns, values added one after the other in float64."""
    total = np.zeros(n_columns)
    for part in parts:
        if not sparse.issparse(part):
            total += part.sum(axis=0, dtype=np.float64)
            continue
        columns = part.indices if part.format == "csr" else np.repeat(np.arange(part.shape[1]), np.diff(part.indptr))
        for at in range(0, part.nnz, CHUNK):
            np.add.at(total, columns[at : at + CHUNK], part.data[at : at + CHUNK])
    return total
