"""Gradients of one slot in another, through the recorded program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from dbx.data.moments import moments
from dbx.ops.apply import take
from dbx.program import log
from dbx.program.pipeline.path import Path, make_path
from dbx.program.pipeline.values import rows_of
from dbx.program.record.registry import load_program
from dbx.program.replay.location import Location
from dbx.program.slots.addresses import check_key
from dbx.program.slots.slots import Slot, read, row_names
from dbx.program.slots.writing import assign

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

ROWS = 512
"""Maximum number of cells differentiated at a time."""
BYTES = 16 * 2**20
"""Memory of one matrix of them."""


def sensitivity(
    adata: AnnData | MuData,
    output: str,
    input: str = "X",
    *,
    column: int | str | Sequence[int | str] | None = None,
    groups: str | None = None,
    cells: Any = None,
    read_by: str | None = None,
    inputs: Mapping[str, str] | None = None,
    per_cell: bool = False,
    key_added: str | None = None,
) -> pd.DataFrame:
    """Which genes drive a result: its gradients in an earlier slot, through the recorded steps between the two.

    A gradient is taken for every cell in its own values, and averaged over cells. It says how the result would change
    if a gene were a little higher, with everything learnt from the fitted cells held fixed: loadings, networks, the
    neighbour assignments. Where only a projection comes between, it is the loading of the gene.

    Through neighbours, layouts and clusters each cell is treated as a new one: it is placed among all other cells,
    which stay where they are, as :func:`dbx.rerun` places new cells. (The stored place of a fitted cell has no
    gradient.) For labels the probabilities are differentiated, for clusters the share of each in a cell's edges; most
    cells in the middle of a cluster have only its own cells around them, and no gradient.

    Parameters
    ----------
    adata
        Annotated data with a program in ``uns["dbx"]``, and the cells it was fitted on.
    output
        The slot of the result: ``"obsm/X_pca"``, ``"obsm/X_umap"``, ``"obs/leiden"``, ``"obsm/label_probabilities"``.
    input
        The slot whose values drive it: ``"X"``, ``"layers/counts"``, ``"obsm/X_pca"``.
    column
        Column of the result, or several: numbers from 0, or labels where the result is of labels; all by default.
    groups
        Column of ``obs``: average in each of its categories, not over all cells.
    cells
        Only these cells: names, row numbers or a boolean mask.
    read_by
        Name of the step whose version of ``input`` is meant; by default the one that reads it last on the way. With
        ``read_by="normalize_total"`` these are counts, with ``"pca"`` what the components are made of.
    inputs
        Where an input is that is not in its slot any more: ``{"X": "layers/counts"}``.
    per_cell
        Return the gradients themselves, for one ``column``: they take as much memory as dense input.
    key_added
        Key of ``uns`` under which the table is kept, too, for :func:`dbx.pl.sensitivity`.

    Returns
    -------
    A table with a row for each gene that the steps read (others have no influence), in each group and for each column
    of the result, the strongest effect first:

    ``column``, ``group``, ``gene``
        Column of the result; category, where there are ``groups``; gene, or number of a column where ``input`` is not
        a gene matrix.
    ``gradient``, ``magnitude``
        Mean over cells, and mean absolute value, in units of the result for one of the input.
    ``sd``, ``effect``
        Standard deviation of the gene over all cells used, and ``gradient`` times this: what a usual change of the
        gene does.

    With ``per_cell=True`` a DataFrame of shape (n_cells, n_genes), float32. With ``key_added`` also
    ``uns[key_added]``: ``table`` and ``params``.

    Raises
    ------
    SlotError
        A slot is not there.
    ValueError
        There is no program; the output is not computed from the input, or has no gradient; there is no such column,
        group or cell; what the program read is gone.
    """
    check_key(key_added)
    registry = load_program(adata)
    first, last = Slot.parse(input), Slot.parse(output)
    location = Location(adata, registry, dict(inputs or {}), own=True)
    names = row_names(adata, Slot("obs", mod=last.mod))
    path = make_path(adata, registry, location, len(names), (first, last), read_by)
    location.check_inputs()
    rows = _chosen(cells, names)
    known = path.columns(rows_of(path.values, rows[:1]))
    wanted = _wanted(column, known, last)
    levels, codes = _grouped(adata, groups, last.mod, rows)
    features = path.features or [str(i) for i in range(path.n_features)]
    if per_cell:
        if len(wanted) != 1 or groups is not None or key_added is not None:
            msg = "per_cell=True is for one column, such as column=0, without groups or key_added."
            raise ValueError(msg)
        return pd.DataFrame(_of_each(path, rows, wanted[0]), index=names[rows], columns=features)
    with log.timed(f"differentiating {last.written()}"), log.progress("sensitivity") as show:
        mean, magnitude = _means(path, rows, wanted, codes, len(levels), show)
    sd = np.sqrt(moments(take(path.values[path.start.slot], rows)).variance[0])
    table = _table(mean, magnitude, sd, [known[i] for i in wanted], None if groups is None else levels, features)
    table.attrs["output"] = output
    if key_added is not None:
        params = {"output": output, "input": input, **({} if groups is None else {"groups": groups})}
        assign(adata, {Slot("uns", (key_added,), last.mod): {"table": table, "params": params}})
    return table


def _chosen(cells, names: pd.Index) -> np.ndarray:
    """Row numbers of the cells asked for."""
    if len(names) == 0:
        msg = "There are no cells to differentiate at."
        raise ValueError(msg)
    if cells is None:
        return np.arange(len(names))
    cells = np.atleast_1d(np.asarray(cells))
    if cells.dtype == bool:
        if cells.shape != names.shape:
            msg = f"The mask of cells has {len(cells)} values for {len(names)} cells."
            raise ValueError(msg)
        rows = np.flatnonzero(cells)
    elif cells.dtype.kind in "iu":
        rows = cells
        if ((rows < 0) | (rows >= len(names))).any():
            msg = f"There is no cell {rows[(rows < 0) | (rows >= len(names))][0]} among {len(names)}."
            raise ValueError(msg)
    else:
        rows = names.get_indexer(cells)
        if (rows < 0).any():
            msg = f"There is no cell {str(cells[rows < 0][0])!r}."
            raise ValueError(msg)
    if len(rows) == 0:
        msg = "cells names no cell."
        raise ValueError(msg)
    return rows


def _wanted(column, known: list[str], slot: Slot) -> list[int]:
    if column is None:
        return list(range(len(known)))
    asked = [column] if isinstance(column, int | str | np.integer) else list(column)
    found = []
    for one in asked:
        number = known.index(one) if isinstance(one, str) and one in known else one
        if not isinstance(number, int | np.integer) or not 0 <= number < len(known):
            some = ", ".join(known[:8]) + (" ..." if len(known) > 8 else "")
            msg = f"{slot.written()} has no column {one!r}; it has {some}."
            raise ValueError(msg)
        found.append(int(number))
    return found


def _grouped(adata, groups: str | None, mod: str | None, rows: np.ndarray) -> tuple[list[str], np.ndarray]:
    """(categories that are there, each chosen cell's code, -1 for none)."""
    if groups is None:
        return ["all"], np.zeros(len(rows), np.int32)
    column = pd.Series(np.asarray(read(adata, Slot("obs", (groups,), mod)), dtype=object)[rows])
    kept = read(adata, Slot("obs", (groups,), mod))
    order = kept.cat.categories if hasattr(kept, "cat") else sorted(column.dropna().unique(), key=str)
    levels = [level for level in order if (column == level).any()]
    if not levels:
        msg = f"None of these cells has a group in {Slot('obs', (groups,), mod).written()}."
        raise ValueError(msg)
    return [str(level) for level in levels], pd.Index(levels).get_indexer(column).astype(np.int32)


def _blocks(path: Path, rows: np.ndarray):
    """(number of cells, their values, their rows as of new cells), the last block filled up with its last cell."""
    width = max(path.n_features, 1)
    size = min(max(min(ROWS, BYTES // (4 * width)), 8), len(rows))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        filled = np.concatenate([part, np.repeat(part[-1:], size - len(part))])
        yield slice(start, start + len(part)), rows_of(path.values, filled), -2 - filled.astype(np.int32)


def _pullback(path: Path, states, values: dict[str, Any], rows):
    """A function that gives each cell's gradient of a column of the result."""
    start = path.start.slot

    def result(x):
        z = path.run(states, {**values, start: x}, rows)[path.end]
        return z[:, None] if z.ndim == 1 else z

    z, pull = jax.vjp(result, values[start])
    return lambda column: pull(jnp.zeros_like(z).at[:, column].set(1))[0]


def _means(path: Path, rows: np.ndarray, columns: list[int], codes: np.ndarray, n_groups: int, show):
    """Mean gradients and mean absolute ones, two arrays of shape (n_columns, n_groups, n_genes)."""

    @jax.jit
    def sums(states, values, rows, members, columns):
        gradient = _pullback(path, states, values, rows)

        def one(column):
            g = gradient(column)
            both = jnp.stack([g, jnp.abs(g)])
            return jnp.einsum("cg,scj->sgj", members, both, precision=jax.lax.Precision.HIGHEST)

        return jax.lax.map(one, columns)

    states = path.pipeline.states
    total: Any = 0.0
    for at, values, own in _blocks(path, rows):
        members = np.zeros((len(own), n_groups), np.float32)
        here = codes[at]
        members[np.flatnonzero(here >= 0), here[here >= 0]] = 1
        total = total + np.asarray(sums(states, values, own, members, np.array(columns)), np.float64)
        show(at.stop, len(rows))
    counts = np.bincount(codes[codes >= 0], minlength=n_groups)
    mean = total / counts[:, None]
    if not np.isfinite(mean).all():
        msg = "Some gradients are not finite: look for cells without counts, or with extreme values."
        raise FloatingPointError(msg)
    return mean[:, 0], mean[:, 1]


def _of_each(path: Path, rows: np.ndarray, column: int) -> np.ndarray:
    """The gradient of each cell, an array of shape (n_cells, n_genes)."""
    compiled = jax.jit(lambda states, values, rows: _pullback(path, states, values, rows)(column))
    found = np.empty((len(rows), path.n_features), np.float32)
    states = path.pipeline.states
    for at, values, own in _blocks(path, rows):
        found[at] = np.asarray(compiled(states, values, own))[: at.stop - at.start]
    return found


def _table(mean, magnitude, sd, columns: list[str], levels: list[str] | None, features: list[str]) -> pd.DataFrame:
    """A row for each column of the result, group and gene; genes by effect."""
    frames = []
    for i, column in enumerate(columns):
        for j, level in enumerate(levels or [None]):
            gradient = mean[i, j]
            frame = pd.DataFrame({"column": column, "group": level, "gene": features})
            frame = frame.assign(gradient=gradient, magnitude=magnitude[i, j], sd=sd, effect=gradient * sd)
            frames.append(frame.iloc[np.argsort(-np.abs(gradient * sd), kind="stable")])
    table = pd.concat(frames, ignore_index=True)
    for name, order in (("column", columns), ("group", levels)):
        if order is not None:
            table[name] = pd.Categorical(table[name], categories=order)
    return table.drop(columns="group") if levels is None else table
