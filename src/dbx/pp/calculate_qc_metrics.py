"""Quality metrics of cells and genes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.ops.quality.qc_metrics import QCMetrics
from dbx.program import Slot, check_key, compute_step, holder, matrix_slot, read, run_step
from dbx.program.compat import SCANPY
from dbx.program.log import warn_of_future

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def calculate_qc_metrics(
    adata: AnnData | MuData,
    *,
    expr_type: str = "counts",
    var_type: str = "genes",
    qc_vars: Collection[str] | str = (),
    percent_top: Collection[int] | None = (50, 100, 200, 500),
    layer: str | None = None,
    use_raw: bool = False,
    inplace: bool = False,
    log1p: bool = True,
    parallel: bool | None = None,
    mod: str | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame] | None:
    """Compute quality metrics of cells and genes.

    With ``inplace=True`` the step is recorded: ``dbx.rerun`` computes the metrics of new cells, with the genes of
    ``qc_vars`` by name, so that new cells need no such columns. As :func:`scanpy.pp.calculate_qc_metrics`.

    Parameters
    ----------
    adata
        Counts of cells by genes; dense, sparse, dask or on disk.
    expr_type, var_type
        Names of the values and of the columns, in the names of the metrics.
    qc_vars
        Boolean columns of ``adata.var`` that mark sets of genes, such as mitochondrial ones.
    percent_top
        Numbers n of genes: the percentage of counts in the n largest genes of each cell.
    layer
        Layer to use instead of ``X``.
    use_raw
        Use ``adata.raw.X``.
    inplace
        Write the metrics into ``adata`` and record the step; otherwise return them.
    log1p
        Compute logarithms of the metrics, too.
    parallel
        Has no effect.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or with ``inplace=False`` the metrics of cells and those of genes. Sets:

    ``adata.obs['n_genes_by_counts']``, ``adata.obs['total_counts']``
        Number of genes other than zero, and sum of the counts.
    ``adata.obs['pct_counts_in_top_{n}_genes']``
        Percentage of the counts in the n largest genes.
    ``adata.obs['total_counts_{qc_var}']``, ``adata.obs['pct_counts_{qc_var}']``
        Sum of the counts of a set of genes, and its percentage; NaN for cells without counts.
    ``adata.var['n_cells_by_counts']``, ``adata.var['mean_counts']``, ``adata.var['pct_dropout_by_counts']``
        Number of cells in which the gene is other than zero, its mean, and the percentage of cells in which it is zero.
    ``adata.var['total_counts']``
        Sum of the gene's counts.
    ``adata.obs['log1p_...']``, ``adata.var['log1p_...']``
        Logarithms of one plus these sums, numbers and means.

    Raises
    ------
    KeyError
        ``adata.var`` has no such column.
    IndexError
        A number of ``percent_top`` is below 1 or above the number of genes.
    ValueError
        A column of ``qc_vars`` is not boolean.
    """
    if parallel is not None:
        warn_of_future("Argument `parallel` is deprecated, and currently has no effect.")
    for argument, value in {"expr_type": expr_type, "var_type": var_type}.items():
        check_key(value, argument)
    slot = Slot.parse(matrix_slot(layer, use_raw=use_raw), mod)
    x, genes = read(adata, slot), gene_frame(adata, slot)
    names = tuple(dict.fromkeys([qc_vars] if isinstance(qc_vars, str) else qc_vars))
    settings = {
        "qc_vars": names,
        "members": tuple(members_of(adata, genes, name, slot) for name in names),
        "percent_top": checked_positions(percent_top, x.shape[1]),
        "log1p": bool(log1p),
    }
    operator = QCMetrics.declared(settings)(**settings)
    columns = column_names(settings, operator.outputs, expr_type, var_type)
    dtypes = scanpys_dtypes(x, columns)
    if inplace:
        writes = {name: f"{table}/{column}" for name, (table, column) in columns.items()}
        run_step(adata, operator, reads={"x": slot}, writes=writes, name="calculate_qc_metrics", mod=mod)
        owner = holder(adata, slot)
        for (table, column), dtype in dtypes.items():
            frame = getattr(owner, table)
            if frame[column].dtype != dtype and frame[column].notna().all():
                frame[column] = frame[column].astype(dtype)
        return None
    outputs = compute_step(adata, operator, reads={"x": slot}, mod=mod)
    frames = {"obs": pd.DataFrame(index=holder(adata, slot).obs_names), "var": pd.DataFrame(index=genes.index)}
    for name, (table, column) in columns.items():
        frames[table][column] = np.asarray(outputs[name])
    typed = {table: {c: d for (t, c), d in dtypes.items() if t == table} for table in frames}
    return frames["obs"].astype(typed["obs"]), frames["var"].astype(typed["var"])


def gene_frame(adata: AnnData | MuData, slot: Slot) -> pd.DataFrame:
    """The table of the genes that are a matrix's columns."""
    owner = holder(adata, slot)
    return owner.raw.var if slot.container == "raw" else owner.var


def members_of(adata: AnnData | MuData, genes: pd.DataFrame, name: str, slot: Slot) -> tuple[int, ...]:
    """Numbers of the genes that a column marks.

    Raises
    ------
    ValueError
        It is not boolean.
    """
    if name in genes:
        flags = genes[name]
    else:
        flags = holder(adata, slot).var.get(name)
        flags = read(adata, Slot("var", (name,), slot.mod)) if flags is None else flags.reindex(genes.index)
    values = flags.to_numpy()
    if not all(isinstance(value, bool | np.bool_) for value in values):
        msg = f"adata.var[{name!r}] must be boolean (True for the genes of the set) without gaps; got {flags.dtype}."
        raise ValueError(msg)
    return tuple(np.flatnonzero(values.astype(bool)).tolist())


def checked_positions(percent_top: Collection[int] | None, n_genes: int) -> tuple[int, ...]:
    """The numbers of largest genes, in order.

    Raises
    ------
    IndexError
        One is out of range.
    """
    wanted = () if percent_top is None else percent_top
    if isinstance(wanted, str) or not isinstance(wanted, Iterable) or any(n != int(n) for n in wanted):
        msg = f"percent_top must be a list of whole numbers, such as [50, 100]; got {percent_top!r}."
        raise TypeError(msg)
    positions = tuple(sorted({int(n) for n in wanted}))
    if positions and not (positions[0] > 0 and positions[-1] <= n_genes):
        msg = (
            f"Positions outside range of features: percent_top must be from 1 to the number of genes, {n_genes}; got "
            f"{', '.join(map(str, positions))}. Pass smaller numbers, or percent_top=None."
        )
        raise IndexError(msg)
    return positions


def column_names(
    settings: Mapping[str, Any], outputs: Collection[str], expr_type: str, var_type: str
) -> dict[str, tuple[str, str]]:
    """Output -> (obs or var, scanpy's name of the column), in scanpy's order."""
    cells = {"n_genes": f"n_{var_type}_by_{expr_type}", "total": f"total_{expr_type}"}
    tops = {f"pct_in_top/{n}": f"pct_{expr_type}_in_top_{n}_{var_type}" for n in settings["percent_top"]}
    columns = {**_with_logarithms(cells), **tops}
    for name in settings["qc_vars"]:
        columns |= _with_logarithms({f"total/{name}": f"total_{expr_type}_{name}"})
        columns[f"pct/{name}"] = f"pct_{expr_type}_{name}"
    genes = {
        "n_cells": f"n_cells_by_{expr_type}",
        **_with_logarithms({"mean": f"mean_{expr_type}"}),
        "pct_dropout": f"pct_dropout_by_{expr_type}",
        **_with_logarithms({"gene_total": f"total_{expr_type}"}),
    }
    placed = {name: ("obs", column) for name, column in columns.items()}
    placed |= {name: ("var", column) for name, column in genes.items()}
    return {name: place for name, place in placed.items() if name in outputs}


def _with_logarithms(columns: Mapping[str, str]) -> dict[str, str]:
    pairs = [((name, column), (f"log1p_{name}", f"log1p_{column}")) for name, column in columns.items()]
    return dict(pair for both in pairs for pair in both)


def scanpys_dtypes(x: Any, columns: Mapping[str, tuple[str, str]]) -> dict[tuple[str, str], np.dtype]:
    """(obs or var, column) -> dtype of columns whose dtype in scanpy depends on the kind of matrix or its version."""
    dtypes = {}
    if sparse.issparse(x) and x.format in ("csr", "csc"):
        dtypes["n_genes" if x.format == "csr" else "n_cells"] = x.indptr.dtype
    if SCANPY.release >= (1, 12) and x.dtype.kind == "f":
        dtypes |= {"mean": x.dtype, "log1p_mean": x.dtype}
    return {columns[name]: dtype for name, dtype in dtypes.items() if name in columns}
