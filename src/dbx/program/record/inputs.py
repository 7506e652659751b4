"""Collect an operator's inputs from slots: checked, matched to versions, as ``fit`` and ``__call__`` take them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Input, Operator
from dbx.ops.values import Codes, Edges
from dbx.program import log
from dbx.program.record.step import Read, gene_array
from dbx.program.slots.checks import LOOKS_LIKE, check_matrix, looks_like_counts, wanted
from dbx.program.slots.fingerprint import same, slot_fingerprint
from dbx.program.slots.slots import Slot, as_codes, gene_names, holder, n_rows, read

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from dbx.program.record.registry import Registry


@dataclass
class Gathered:
    """An operator's inputs, and what is to be remembered of them."""

    fit: dict[str, Any] = field(default_factory=dict)
    call: dict[str, Any] = field(default_factory=dict)
    reads: dict[str, Read] = field(default_factory=dict)
    fingerprints: dict[str, np.ndarray] = field(default_factory=dict)
    genes: np.ndarray | None = None
    mask: np.ndarray | None = None
    """Array of shape (n_vars,), bool: the genes in use, None for all."""
    select_source: int | None = None
    n_cells: int = 0


def gather(
    data: AnnData | MuData,
    registry: Registry,
    operator: Operator,
    reads: Mapping[str, str | Sequence[str]],
    *,
    select: str | np.ndarray | None = None,
    constants: Mapping[Slot, Any] | None = None,
    mod: str | None = None,
    title: str | None = None,
) -> Gathered:
    """Read and check every input of an operator, which goes by ``title`` in messages.

    What is in ``constants`` is read from there.
    """
    title = title or operator.name
    constants = constants or {}
    unknown = set(reads) - set(operator.inputs)
    if unknown:
        msg = f"{operator.name} has no input {', '.join(sorted(unknown))}."
        raise TypeError(msg)
    given = Gathered()
    for name, port in operator.inputs.items():
        addresses = reads.get(name)
        if port.kind == "rows" or (addresses is None and port.optional):
            continue
        slots = [Slot.parse(a, mod) for a in ([addresses] if isinstance(addresses, str) else addresses)]
        given.n_cells = holder(data, slots[0]).n_obs
        values = [constants[slot] if slot in constants else read(data, slot) for slot in slots]
        traced = [trace(data, registry, slot, value) for slot, value in zip(slots, values, strict=True)]
        for slot, (source, _, print_) in zip(slots, traced, strict=True):
            if source is None and print_ is not None:
                given.fingerprints[str(slot)] = print_
        known = _content(data, registry, slots[0], traced[0])
        fit, call, content, levels = _value(data, title, operator, port, slots, values, known, traced[0], given, select)
        given.fit[name], given.call[name] = fit, call
        given.reads[name] = Read(
            slots=tuple(map(str, slots)),
            source=max((source for source, _, _ in traced if source is not None), default=None),
            gap=next((gap for _, gap, _ in traced if gap is not None), None),
            content=content,
            levels=levels,
        )
        _trace_select(data, registry, select, slots[0], port, given)
    for name, port in operator.inputs.items():
        if port.kind == "rows":
            given.fit[name] = given.call[name] = np.arange(given.n_cells, dtype=np.int32)
    return given


def trace(data, registry: Registry, slot: Slot, value: Any) -> tuple[int | None, str | None, np.ndarray | None]:
    """Which version of a slot this is: (id of its writer, name of the step it strayed from, fingerprint)."""
    print_ = slot_fingerprint(value, *axis_names(data, slot))
    address = str(slot)
    latest = registry.writer(address)
    if latest is None:
        return None, None, print_
    for step in sorted(registry, key=lambda step: -step.at):
        if address in step.writes.values():
            verdict = same(step.fingerprints.get(address), print_)
            grown = slot.axis == "cells" and n_rows(value) > step.n_cells  # cells were added that the step never saw
            if not grown and (verdict or (verdict is None and step is latest)):
                return step.id, None, print_
    for step in registry:
        for earlier in step.reads.values():
            if address in earlier.slots and earlier.source is None:
                known = step.fingerprints.get(original(address) if address in step.writes.values() else address)
                if same(known, print_):
                    return None, earlier.gap, print_
    return None, latest.name, print_


def original(address: str) -> str:
    """Under which name a step keeps the fingerprint of a slot as it was before the step overwrote it."""
    return f"{address} before"


def axis_names(data, slot: Slot) -> tuple[pd.Index, pd.Index | None]:
    """Names of rows and, where they have any, columns of a slot."""
    owner = holder(data, slot)
    rows = owner.var_names if slot.axis == "genes" else owner.obs_names
    if slot.is_gene_matrix:
        return rows, gene_names(data, slot)
    return rows, rows if slot.container in ("obsp", "varp") else None


def _content(data, registry: Registry, slot: Slot, traced) -> str | None:
    """What a slot is known to hold: by the step that wrote it, or whose output was copied here."""
    source, _, print_ = traced
    step = registry.by_id(source)
    if step is not None:
        return step.content.get(str(slot))
    if not slot.is_gene_matrix:
        return None
    for step in sorted(registry, key=lambda step: -step.at):
        for address, content in step.content.items():
            if same(step.fingerprints.get(address), print_):
                return content
    return None


def _noted(data, slot: Slot, traced) -> str | None:
    """What scanpy's note in ``uns`` says of X: less sure than a record, as X may have been put back since."""
    source, gap, _ = traced
    noted = slot.container == "X" and source is None and gap is None and "log1p" in holder(data, slot).uns
    return "log" if noted and not looks_like_counts(read(data, slot)) else None


def _value(data, title: str, operator, port: Input, slots, values, known, traced, given: Gathered, select):
    """(value for fit, value for call, content, levels) of one input."""
    if port.kind == "matrix":
        precise = np.float64 if operator.precision == "float64" else np.float32
        value = values[0].to_numpy() if isinstance(values[0], pd.DataFrame) else values[0]
        blocks = RowBlocks(value, dtype=precise)
        noted = None if known else _noted(data, slots[0], traced)
        if noted and port.content and noted not in port.content:
            log.warn(f"{title} needs {wanted(port)}, but {slots[0].written()} seems to hold {LOOKS_LIKE[noted]}.")
        content = check_matrix(blocks, port, slots[0], known, title)
        content = noted if noted and content == "fractional" else content
        if port.genes and slots[0].is_gene_matrix:
            blocks = _selected(data, blocks, slots[0], given, select)
        return blocks, blocks, content, {}
    if port.kind == "graph":
        matrix = sparse.csr_matrix(values[0])
        matrix.sort_indices()
        return matrix, Edges(matrix, np.arange(n_rows(matrix), dtype=np.int32)), None, {}
    columns = {slot.keys[-1]: column_value(value, slot, title, port) for slot, value in zip(slots, values, strict=True)}
    levels = {name: column.levels for name, column in columns.items() if isinstance(column, Codes)}
    value = next(iter(columns.values())) if port.kind == "codes" else columns
    return value, value, None, levels


def _selected(data, blocks: RowBlocks, slot: Slot, given: Gathered, select) -> RowBlocks:
    names = gene_names(data, slot)
    if not names.is_unique:
        twice = names[names.duplicated()][:3].tolist()
        some = ", ".join(map(str, twice))
        msg = f"Gene names are not unique ({some} ...): make them so with adata.var_names_make_unique()."
        raise ValueError(msg)
    mask = _mask(data, slot, select)
    given.mask = mask
    given.genes = gene_array(names if mask is None else names[mask])
    return blocks if mask is None else blocks.select(np.flatnonzero(mask))


def _mask(data, slot: Slot, select) -> np.ndarray | None:
    if select is None:
        return None
    mask = read(data, Slot.parse(select, slot.mod)) if isinstance(select, str) else select
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != (len(gene_names(data, slot)),):
        n_genes = len(gene_names(data, slot))
        msg = f"A gene mask must be boolean and as long as var ({n_genes}), not {mask.dtype} of {mask.shape}."
        raise ValueError(msg)
    if not mask.any():
        where = f"{Slot.parse(select, slot.mod).written()}" if isinstance(select, str) else "The mask"
        msg = f"{where} selects no gene."
        raise ValueError(msg)
    return mask


def _trace_select(data, registry, select, slot: Slot, port: Input, given: Gathered) -> None:
    if port.genes and isinstance(select, str):
        address = Slot.parse(select, slot.mod)
        given.select_source, _, _ = trace(data, registry, address, read(data, address))


def column_value(value: Any, slot: Slot, operator: str, port: Input) -> Codes | np.ndarray:
    """A column as Codes, or as float64 where it is a measurement; where the input allows it, -1 for a missing category.

    Raises
    ------
    ValueError
        It has missing values.
    """
    series = value if isinstance(value, pd.Series) else pd.Series(np.asarray(value))
    empty = series.isna()
    if empty.any() and not port.missing:
        msg = (
            f"{slot.written()} has {int(empty.sum())} missing values, which {operator} cannot use: "
            "fill them or drop these cells first."
        )
        raise ValueError(msg)
    discrete = port.discrete or port.kind == "codes" or pd.api.types.is_bool_dtype(series)
    if pd.api.types.is_numeric_dtype(series) and not discrete:
        return series.to_numpy(np.float64)
    return as_codes(series)
