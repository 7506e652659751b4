"""Run recorded steps over host data: the same block-wise application that made the stored results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import Input, Operator, frozen
from dbx.ops.values import Codes, Edges, Graph
from dbx.program.record.inputs import column_value
from dbx.program.record.outputs import as_dtype, views
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.replay.plan import Version, read_versions
from dbx.program.slots.checks import LOOKS_LIKE, check_matrix
from dbx.program.slots.slots import Slot, as_codes


@dataclass
class Value:
    """A version of a slot on the host, with the names of its columns where they are genes."""

    value: Any
    genes: pd.Index | None = None
    rows: np.ndarray | None = None
    """For a graph: each cell's own row in the reference."""


@dataclass
class Replay:
    """The versions computed so far, and how genes and cells of the data relate to those the program was fitted on."""

    registry: Registry
    n_cells: int
    missing_genes: str = "raise"
    env: dict[Version, Value] = field(default_factory=dict)

    def run(self, step: Step, operator: Operator, rows: np.ndarray) -> dict[str, Any]:
        """Apply a fitted operator; its outputs by name, also kept for the steps that read them."""
        call = self._inputs(step, operator, step.genes, rows)
        call = self._extended(step, operator, call)
        outputs = apply(operator, call, self.n_cells)
        return self._keep(step, operator, outputs, step.genes)

    def matrix(self, step: Step, operator: Operator, name: str) -> np.ndarray:
        """A matrix input as one dense array."""
        return self._inputs(step, operator, step.genes, np.empty(0, np.int32))[name].dense()

    def refit(self, step: Step) -> tuple[Operator, dict[str, Any], np.ndarray | None]:
        """Fit the step's operator anew; (operator, outputs by name, gene names)."""
        operator = CATALOGUE[step.operator](**{name: frozen(value) for name, value in step.config.items()})
        return self._fitted(step, operator, self._selected_genes(step))

    def conclude(self, step: Step) -> tuple[Operator, dict[str, Any], np.ndarray | None]:
        """The same with the step's state kept, as far as its settings do not ask for another fit."""
        return self._fitted(step, step.build(), step.genes)

    def _fitted(self, step: Step, operator: Operator, genes) -> tuple[Operator, dict[str, Any], np.ndarray | None]:
        rows = np.arange(self.n_cells, dtype=np.int32)
        call = self._inputs(step, operator, genes, rows, known_levels=False)
        fit = {name: value.matrix if isinstance(value, Edges) else value for name, value in call.items()}
        operator.fit(**fit, seed=step.seed)
        outputs = {**apply(operator, call, self.n_cells), **views(operator)}
        return operator, self._keep(step, operator, outputs, genes), genes

    def _keep(self, step: Step, operator: Operator, outputs: dict[str, Any], genes) -> dict[str, Any]:
        outputs = {name: as_dtype(value, operator.outputs[name]) for name, value in outputs.items()}
        for name, value in outputs.items():
            if name not in step.writes:
                continue
            slot = Slot.parse(step.writes[name])
            names = pd.Index(genes) if genes is not None and (slot.is_gene_matrix or slot.axis == "genes") else None
            kept = Value(value, names)
            if isinstance(value, Graph):
                kept = Value(value.to_csr(), None, np.asarray(value.rows))
            self.env[Version(str(slot), step.id)] = kept
        return outputs

    def _inputs(self, step: Step, operator: Operator, genes, rows, *, known_levels: bool = True) -> dict[str, Any]:
        inputs = {name: rows for name, port in operator.inputs.items() if port.kind == "rows"}
        for name, read in step.reads.items():
            versions = read_versions(self.registry, step, read)
            port = operator.inputs[name]
            if port.of_fitted_cells and any(version not in self.env for version in versions):
                continue
            values = [self.env[version] for version in versions]
            if port.kind == "matrix":
                inputs[name] = self._blocks(step, operator, port, values[0], versions[0], genes, read.content)
            elif port.kind == "graph":
                matrix = sparse.csr_matrix(values[0].value)
                matrix.sort_indices()
                own = values[0].rows if values[0].rows is not None else np.arange(matrix.shape[0], dtype=np.int32)
                inputs[name] = Edges(matrix, own)
            else:
                levels = read.levels if known_levels else {}
                columns = _columns(step, port, versions, values, levels)
                inputs[name] = next(iter(columns.values())) if port.kind == "codes" else columns
        return inputs

    def _blocks(self, step, operator, port: Input, value: Value, version: Version, genes, content) -> RowBlocks:
        precise = np.float64 if operator.precision == "float64" else np.float32
        array = value.value.to_numpy() if isinstance(value.value, pd.DataFrame) else value.value
        blocks = RowBlocks(array, dtype=precise)
        if version.writer is None:
            self._check_state(step, port, blocks, Slot.parse(version.slot), content)
        if not port.genes or value.genes is None or genes is None:
            return blocks
        columns = gene_columns(value.genes, genes, step.name, self.missing_genes)
        return blocks if columns is None else blocks.select(columns)

    def _check_state(self, step: Step, port: Input, blocks: RowBlocks, slot: Slot, content: str | None) -> None:
        """New cells must come in the state the program started from: counts as counts, all else not as counts."""
        who = f"Step {step.name!r}"
        elsewhere = f'Name where they are: inputs={{"{slot}": "layers/counts"}}.'
        wanted = Input(content=("counts",) if content == "counts" else (), genes=port.genes)
        found = check_matrix(blocks, wanted, slot, None, who, advice=elsewhere)
        if port.genes and found == "counts" and content not in (None, "counts"):
            msg = (
                f"{who} started from {LOOKS_LIKE[content]}, but {slot.written()} holds whole numbers, as raw counts "
                "are. Bring the new cells into that state first, as it was done on the reference."
            )
            raise ValueError(msg)

    def _selected_genes(self, step: Step) -> np.ndarray | None:
        if step.select is None or step.genes is None:
            return step.genes
        mask = self.env.get(Version(step.select, step.select_source))
        return step.genes if mask is None else mask.genes.to_numpy()[np.asarray(mask.value, bool)]

    def _extended(self, step: Step, operator: Operator, call: dict[str, Any]) -> dict[str, Any]:
        """Levels that were not there at the fit: refused, left as -1, or given one extra small fit."""
        for name, port in operator.inputs.items():
            if port.kind not in ("codes", "columns") or name not in call:
                continue
            known = step.reads[name].levels
            columns = call[name] if port.kind == "columns" else {next(iter(known), None): call[name]}
            grown = any(
                isinstance(column, Codes) and column.levels != tuple(known.get(key, column.levels))
                for key, column in columns.items()
            )
            if grown and port.unseen == "extend":
                operator.extend(**call, seed=step.seed)
        return call


def gene_columns(present: pd.Index, wanted: Sequence[str], step: str, missing_genes: str) -> np.ndarray | None:
    """Column of each wanted gene, -1 for a missing one; None where the genes are the same in the same order.

    Raises
    ------
    ValueError
        Wanted genes are missing, or stand there twice.
    """
    wanted = pd.Index(wanted)
    if len(present) == len(wanted) and (present == wanted).all():
        return None
    twice = present[present.duplicated()].intersection(wanted)
    if len(twice):
        msg = (
            f"Step {step!r} needs genes that the data have more than once: {_some(twice)}. Make names unique "
            "(adata.var_names_make_unique()) or drop the extra columns."
        )
        raise ValueError(msg)
    columns = pd.Index(present).drop_duplicates().get_indexer(wanted)
    if present.has_duplicates:
        first = np.flatnonzero(~present.duplicated())
        columns = np.where(columns < 0, -1, first[columns])
    missing = wanted[columns < 0]
    if len(missing) and missing_genes != "zero":
        msg = (
            f"Step {step!r} needs {len(wanted)} genes, of which the data lack {len(missing)}: {_some(missing)}. "
            'Name genes as the reference does, or count missing ones as zero: missing_genes="zero".'
        )
        raise ValueError(msg)
    if len(missing) == len(wanted):
        msg = f"The data have none of the {len(wanted)} genes of step {step!r}: are names others ({_some(present)})?"
        raise ValueError(msg)
    return columns


def _columns(step: Step, port: Input, versions, values: Sequence[Value], levels: Mapping[str, tuple[str, ...]]):
    columns = {}
    for version, value in zip(versions, values, strict=True):
        slot = Slot.parse(version.slot)
        key = slot.keys[-1]
        column = value.value
        if isinstance(column, Codes):
            columns[key] = column
            continue
        if key not in levels:
            columns[key] = column_value(column, slot, step.operator, port)
            continue
        column_value(column, slot, step.operator, port)  # refuses missing values
        columns[key] = _recoded(step, port, slot, column, levels[key])
    return columns


def _recoded(step: Step, port: Input, slot: Slot, column, levels: tuple[str, ...]) -> Codes:
    column = pd.Series(np.asarray(column, dtype=object))
    codes = as_codes(column, levels)
    allowed = column.isna().to_numpy() if port.missing else False
    if ((np.asarray(codes.codes) >= 0) | allowed).all() or port.unseen == "missing":
        return codes
    unseen = sorted({str(v) for v in column} - set(levels))
    if port.unseen == "extend":
        return as_codes(column, (*levels, *unseen))
    msg = (
        f"{slot.written()} has levels that step {step.name!r} was not fitted on: {_some(unseen)}. "
        f"It knows {_some(levels)}: rename them, or fit the step again with these cells."
    )
    raise ValueError(msg)


def _some(names, count: int = 5) -> str:
    names = list(map(str, names))
    return ", ".join(names[:count]) + (" ..." if len(names) > count else "")
