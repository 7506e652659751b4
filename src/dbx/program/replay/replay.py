"""Run recorded steps over host data: the same block-wise application that made the stored results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.operator import Input, Operator, frozen
from dbx.ops.values import Edges, Graph
from dbx.program import log
from dbx.program.record.inputs import own_rows
from dbx.program.record.outputs import as_dtype, views
from dbx.program.record.prints import print_read
from dbx.program.record.registry import Registry
from dbx.program.record.step import Read, Step
from dbx.program.replay.levels import known_names, renamed
from dbx.program.replay.plan import Version, read_versions
from dbx.program.slots.checks import LOOKS_LIKE, check_cells, check_matrix, has_negative
from dbx.program.slots.fingerprint import had_negative
from dbx.program.slots.genes import some_of
from dbx.program.slots.kinds import KINDS, Request, Value, leading
from dbx.program.slots.slots import Slot


@dataclass
class Replay:
    """The versions computed so far, and how genes and cells of the data relate to those the program was fitted on."""

    registry: Registry
    n_cells: int
    missing_genes: str = "raise"
    env: dict[Version, Value] = field(default_factory=dict)
    reference: Any = None
    """The data that the program was fitted on, whose levels may have other names by now."""
    as_fitted: dict[tuple[int, Version], Value] = field(default_factory=dict)
    """Columns with the names that their levels had when a step was fitted."""

    def run(self, step: Step, operator: Operator, rows: np.ndarray) -> dict[str, Any]:
        """Apply a fitted operator; its outputs by name, also kept for the steps that read them."""
        call = self.inputs(step, operator, step.genes, rows)
        call = self._extended(step, operator, call)
        outputs = apply(operator, call, self.n_cells)
        return self._keep(step, operator, outputs, step.genes)

    def input(self, step: Step, operator: Operator, name: str) -> Any:
        """One input of an operator."""
        return self.inputs(step, operator, step.genes, np.empty(0, np.int32))[name]

    def refit(self, step: Step, operator: Operator | None = None) -> tuple[Operator, dict[str, Any], np.ndarray | None]:
        """Fit the step's operator again; (operator, outputs by name, gene names).

        With ``operator`` this one, whose fit goes on from its parameters.
        """
        if operator is not None:
            return self._fitted(step, operator, step.genes)
        operator = step.operator_class(**{name: frozen(value) for name, value in step.config.items()})
        return self._fitted(step, operator, self._selected_genes(step))

    def conclude(self, step: Step) -> tuple[Operator, dict[str, Any], np.ndarray | None]:
        """The same with the step's state kept, as far as its settings do not ask for another fit."""
        return self._fitted(step, step.build(), step.genes)

    def _fitted(self, step: Step, operator: Operator, genes) -> tuple[Operator, dict[str, Any], np.ndarray | None]:
        rows = np.arange(self.n_cells, dtype=np.int32)
        call = self.inputs(step, operator, genes, rows, known_levels=False)
        fit = {name: KINDS[operator.inputs[name].kind].for_fit(value) for name, value in call.items()}
        operator.fit(**fit, seed=step.seed)
        outputs = {**apply(operator, call, self.n_cells), **views(operator)}
        return operator, self._keep(step, operator, outputs, genes), genes

    def _keep(self, step: Step, operator: Operator, outputs: dict[str, Any], genes) -> dict[str, Any]:
        outputs = {name: as_dtype(value, operator.outputs[name]) for name, value in outputs.items()}
        for name, value in outputs.items():
            if name not in step.writes:
                continue
            slot = step.writes[name]
            names = pd.Index(genes) if genes is not None and (slot.is_gene_matrix or slot.axis == "genes") else None
            kept = Value(value, names)
            if isinstance(value, Graph | Edges):
                kept = Value(value.to_csr(), None, np.asarray(value.rows))
            self.env[Version(slot, step.id)] = kept
        return outputs

    def inputs(self, step: Step, operator: Operator, genes, rows, *, known_levels: bool = True) -> dict[str, Any]:
        """Every input as ``__call__`` takes it by blocks."""
        inputs = own_rows(operator, rows)
        for name, read in step.reads.items():
            port = operator.inputs[name]
            if port.can_lack and any(version not in self.env for version in self._versions(step, read)):
                if port.stored:
                    log.warn(f"{read.slots[0].written()} is missing: {step.name!r} uses what it stored at the fit.")
                continue
            inputs[name] = self._input(step, operator, name, genes, known_levels=known_levels)
        return inputs

    def check(self, step: Step, operator: Operator) -> None:
        """Refuse matrices that are not in the state, or lack the genes, that the step starts from."""
        for name, read in step.reads.items():
            kind = KINDS[operator.inputs[name].kind]
            if kind.has_content and all(version in self.env for version in self._versions(step, read)):
                self._input(step, operator, name, step.genes)

    def _input(self, step: Step, operator: Operator, name: str, genes, *, known_levels: bool = True) -> Any:
        """One input by blocks, of the state that the step starts from, with the genes that it needs."""
        read, port = step.reads[name], operator.inputs[name]
        request = self._request(step, operator, name, genes, known_levels=known_levels)
        kind = KINDS[port.kind]
        value = kind.read(request)
        if kind.has_content and self._versions(step, read)[0].writer is None:
            self._check_state(request, value, read.content, print_read(step, read.slots[0]))
        matched = kind.match(value, request)
        if port.empty_cells != "allow":
            check_cells(matched, port)
        return matched

    def _versions(self, step: Step, read: Read) -> list[Version]:
        return read_versions(self.registry, step, read)

    def _request(self, step: Step, operator: Operator, name: str, genes, *, known_levels: bool = True) -> Request:
        read, port = step.reads[name], operator.inputs[name]
        versions = self._versions(step, read)
        values = tuple(
            leading(self._value(step, port, read, version, known_levels=known_levels), read.first)
            for version in versions
        )
        return Request(
            step=step.name,
            port=port,
            slots=read.slots,
            values=values,
            wanted=read.columns,
            made=versions[0].writer is not None and values[0].columns is None,
            dtype=np.float64 if operator.precision == "float64" else np.float32,
            genes=genes,
            missing_genes=self.missing_genes,
            levels=read.levels if known_levels else {},
        )

    def _value(self, step: Step, port: Input, read: Read, version: Version, *, known_levels: bool) -> Value:
        return self._as_fitted(step, port, read, version) if known_levels else self.env[version]

    def _as_fitted(self, step: Step, port: Input, read: Read, version: Version) -> Value:
        """A version; a column of levels with the names that these had when the step was fitted."""
        found, slot = self.env[version], version.slot
        if self.reference is None or version.writer is not None or not set(slot.keys) & set(read.levels):
            return found
        if (step.id, version) not in self.as_fitted:
            names = known_names(self.reference, step, slot, found.value, asks=port.unseen != "raise")
            self.as_fitted[step.id, version] = Value(renamed(found.value, names)) if names else found
        return self.as_fitted[step.id, version]

    def _check_state(self, request: Request, blocks: RowBlocks, content: str | None, print_: np.ndarray | None) -> None:
        """New cells must be in the state the program started from: counts as counts, all else not as counts.

        ``print_`` is the fingerprint of what it started from.
        """
        port, slot, who = request.port, request.slots[0], f"Step {request.step!r}"
        elsewhere = f'Name where they are: inputs={{"{slot}": "layers/counts"}}.'
        wanted = Input(content=("counts",) if content == "counts" else (), genes=port.genes, missing=port.missing)
        found = check_matrix(blocks, wanted, slot, None, who, advice=elsewhere)
        if port.genes and found == "counts" and content not in (None, "counts"):
            msg = (
                f"{who} started from {LOOKS_LIKE[content]}, but {slot.written()} holds whole numbers, as raw counts "
                "are. Bring the new cells into that state first, as it was done on the reference."
            )
            raise ValueError(msg)
        if port.genes and had_negative(print_) and not has_negative(blocks):
            log.warn(
                f"{who} started from values above and below zero, as scaling or regressing out leaves them, but "
                f"{slot.written()} has none below zero. Bring the new cells into that state first, as it was done on "
                "the reference."
            )

    def _selected_genes(self, step: Step) -> np.ndarray | None:
        if step.select is None or step.genes is None:
            return step.genes
        mask = self.env.get(Version(step.select, step.select_source))
        return step.genes if mask is None else np.asarray(mask.genes)[np.asarray(mask.value, bool)]

    def _extended(self, step: Step, operator: Operator, call: dict[str, Any]) -> dict[str, Any]:
        """Levels that were not there at the fit may be given one extra small fit."""
        for name, port in operator.inputs.items():
            if port.unseen != "extend" or name not in call:
                continue
            known = step.reads[name].levels
            request = self._request(step, operator, name, step.genes)
            levels = KINDS[port.kind].levels(call[name], request)
            if any(known.get(column, names) != names for column, names in levels.items()):
                _warn_of_new_levels(step, levels, known)
                cast(Any, operator).extend(**call, seed=step.seed)
        return call


def _warn_of_new_levels(step: Step, levels: Mapping[str, Sequence[str]], known: Mapping[str, Sequence[str]]) -> None:
    for column, names in levels.items():
        new = [name for name in names if name not in known[column]]
        if new:
            log.warn(
                f"Step {step.name!r} takes {some_of(map(repr, new))} of obs[{column!r}] as new: it was fitted on "
                f"{some_of(map(repr, known[column]))}, and estimates a correction for each new one. If they are the "
                f"same under other names, rename them first: "
                f"{Slot('obs', (column,), step.mod).written()}.cat.rename_categories(...)."
            )
