"""Checks at the boundary: what an input must hold, with messages that say what to do."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks, is_dask
from dbx.ops.arrays import cell_totals
from dbx.ops.checks import ZERO_COUNTS, check_no_empty_cells
from dbx.ops.operator import Input
from dbx.program import log
from dbx.program.slots.slots import Slot, owner_written, read
from dbx.program.wrappers import call_written

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

AT_ONCE = 1 << 16
"""Values that are looked at together: few, as fractions are found among the first, and in the processor's cache."""
AT_FIRST = 256
"""Rows by which a matrix is judged where reading all of it would take long."""
LOOKS_LIKE = {
    "counts": "raw counts",
    "normalized": "normalised counts",
    "log": "log-normalised values",
    "scaled": "scaled values",
    "embedding": "an embedding",
    "fractional": "fractional values",
}


def check_matrix(
    blocks: RowBlocks, port: Input, slot: Slot, known: str | None, operator: str, *, advice: str | None = None
) -> str | None:
    """Check a matrix input; returns its content as far as it is known: at least whether it is counts.

    ``known`` is its recorded content; ``advice`` says what to do about wrong content.

    Raises
    ------
    ValueError
        The registry knows that the slot holds something else than the operator takes, it has no cells or no columns,
        it contains NaN or infinities, or counts are needed and there are negative or fractional values.
    """
    if 0 in blocks.shape:
        msg = f"{slot.written()} is empty: {blocks.n_rows} cells x {blocks.n_columns} columns."
        raise ValueError(msg)
    if port.content and known is not None and known not in port.content:
        holds = f"{slot.written()} holds {LOOKS_LIKE[known]}"
        msg = f"{operator} needs {wanted(port)}, but {holds}. {advice or _other_place(port, slot)}"
        raise ValueError(msg)
    strict = port.content == ("counts",)
    is_counts = True
    for start, values, part in _chunks(blocks):
        if not port.missing:
            _check_finite(values, part, start, slot)
        elif values.dtype.kind == "f":
            values = values[~np.isnan(values)]  # which say nothing of what the others are
        if strict or start == 0:
            is_counts = is_counts and _are_counts(values)
        if strict and not is_counts:
            raise ValueError(_not_counts(values, slot, operator, advice or _other_place(port, slot)))
        if "counts" in port.content and values.size and values.min() < 0:
            raise ValueError(_not_counts(values, slot, operator, advice or _other_place(port, slot)))
    return known or (("counts" if is_counts else "fractional") if port.genes else None)


def check_not_empty(x: Any) -> None:
    """Refuse a plain array without rows or columns.

    Raises
    ------
    ValueError
        It has none.
    """
    if 0 in x.shape:
        msg = f"The array is empty: its shape is {tuple(x.shape)}."
        raise ValueError(msg)


def check_cells(blocks: RowBlocks, port: Input) -> None:
    """Warn of cells without any count or refuse them, as the input declares; blocks of dask are left lazy.

    Raises
    ------
    ValueError
        There are such cells, and the operator cannot use them.
    """
    if is_dask(blocks.source):
        return
    totals = cell_totals(blocks)
    if port.empty_cells == "raise":
        check_no_empty_cells(totals)
    elif (totals == 0).any():
        log.warn(ZERO_COUNTS)


def has_negative(blocks: RowBlocks) -> bool:
    """Whether there are values below zero in the first rows."""
    rows = blocks.rows(slice(0, 256))
    values = np.asarray(rows.data if sparse.issparse(rows) else rows)
    return bool((values < 0).any())  # also where others are missing


def wanted(port: Input) -> str:
    """What an input takes, for messages."""
    return " or ".join(LOOKS_LIKE[content] for content in port.content)


def _chunks(blocks: RowBlocks):
    """(first row, stored values, rows) of chunks of the source; what is in memory is not copied."""
    source = blocks.source
    if sparse.issparse(source):
        size = 1 << 20
        for at in range(0, max(source.nnz, 1), size):
            yield at, source.data[at : at + size], source
    elif isinstance(source, np.ndarray):
        for start in range(0, blocks.n_rows, blocks.block_rows):
            part = source[start : start + blocks.block_rows]
            yield start, part, part
    else:  # on disk or lazy: only the first block, since reading all would take as long as the step
        part = blocks.rows(slice(0, blocks.block_rows))
        yield 0, part.data if sparse.issparse(part) else part, part


def _check_finite(values: np.ndarray, part, start: int, slot: Slot) -> None:
    if values.dtype.kind != "f" or np.isfinite(_quick_sum(values)):
        return
    if np.isfinite(values).all():
        return
    if sparse.issparse(part):
        entries = part.tocoo()
        flags = ~np.isfinite(entries.data)
        bad = np.column_stack([entries.row[flags], entries.col[flags]])
    else:
        bad = np.argwhere(~np.isfinite(part)) + np.array([start, 0])
    row, column = bad[0]
    msg = (
        f"{slot.written()} contains {len(bad)} NaN or infinite values, the first in row {row}, column {column}. "
        "Remove or impute them first."
    )
    raise ValueError(msg)


def _quick_sum(values: np.ndarray) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(values.sum())


def looks_like_counts(x) -> bool:
    """Whether the first rows of a matrix of any kind hold non-negative whole numbers only."""
    return _are_counts(_first_values(x))


def warn_of_counts(data: AnnData | MuData, slot: Slot, effect: str = "", otherwise: str = "") -> None:
    """Warn of a matrix that looks like counts where logarithms are expected: what follows, and what else to do.

    Nothing but zeros may be either.
    """
    values = _first_values(read(data, slot))
    if values.any() and _are_counts(values):
        log.warn(f"The values in {slot.written()} look like raw counts{effect}. {_take_logarithms(slot)}{otherwise}.")


def refuse_counts(data: AnnData | MuData, slot: Slot, step: str) -> None:
    """Refuse a matrix that looks like counts where logarithms are needed, or in whose first rows all is zero.

    Raises
    ------
    ValueError
        It is.
    """
    matrix = read(data, slot)
    values = _first_values(matrix)
    if not values.any():
        rows = min(AT_FIRST, matrix.shape[0])
        msg = f"{step} needs expressed genes, but the first {rows} rows of {slot.written()} are zero."
        raise ValueError(msg)
    if _are_counts(values):
        port = Input(content=("log",))
        msg = f"{step} needs {wanted(port)}, but the values in {slot.written()} look like raw counts. "
        raise ValueError(msg + _other_place(port, slot))


def refuse_negative(data: AnnData | MuData, slot: Slot, step: str) -> None:
    """Refuse a matrix with negative values where logarithms of amounts are needed.

    Raises
    ------
    ValueError
        There are some in the first rows.
    """
    if has_negative(RowBlocks(read(data, slot))):
        port = Input(content=("log",))
        msg = f"{step} needs {wanted(port)}, but {slot.written()} has negative values, as scaled values have. "
        raise ValueError(msg + _other_place(port, slot))


def _first_values(x) -> np.ndarray:
    rows = RowBlocks(x).rows(slice(0, AT_FIRST))
    return np.asarray(rows.data if sparse.issparse(rows) else rows)


def _are_counts(values: Any) -> bool:
    if values.dtype.kind in "bu":
        return True
    size = max(AT_ONCE // max(prod(values.shape[1:]), 1), 1)
    return all(_are_whole(values[at : at + size]) for at in range(0, len(values), size))


def _are_whole(values: np.ndarray) -> bool:
    if values.size and values.min() < 0:
        return False
    return values.dtype.kind == "i" or bool(np.array_equal(values, np.rint(values)))


def _not_counts(values: np.ndarray, slot: Slot, operator: str, advice: str) -> str:
    if values.size and values.min() < 0:
        what = f"negative values (smallest {values.min():.4g})"
    else:
        what = f"fractional values (such as {values[values != np.rint(values)][0]})"
        where = slot.written()
        advice += (
            " Counts estimated by salmon, kallisto, RSEM or corrected for ambient RNA are fractional: round them, "
            f"{where} = numpy.rint({where}), or pass integers=True to dbx.pp.remove_ambient."
        )
    return f"{operator} needs raw counts, but {slot.written()} has {what}. {advice}"


def _other_place(port: Input, slot: Slot) -> str:
    if "counts" in port.content:
        owner = owner_written(slot.mod)
        return (
            "Name where the counts are, e.g. layer='counts', or keep them before normalising: "
            f"{owner}.layers['counts'] = {owner}.X.copy()."
        )
    if "log" in port.content:
        return f"{_take_logarithms(slot)}, or name a layer that holds such values."
    return "Name another slot."


def _take_logarithms(slot: Slot) -> str:
    normalise, log_ = (call_written(f"dbx.pp.{name}(adata)", slot.mod) for name in ("normalize_total", "log1p"))
    return f"Run {normalise} and {log_} first"
