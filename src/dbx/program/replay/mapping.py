"""One recorded step computed for the cells at hand, and how it is recorded there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Operator
from dbx.ops.state import reference_values
from dbx.ops.values import Codes
from dbx.program.record.inputs import own_rows
from dbx.program.record.outputs import views
from dbx.program.record.recording import step_again
from dbx.program.record.run import Result
from dbx.program.record.step import Step
from dbx.program.replay.placing import placed
from dbx.program.replay.reference import cells_digest, fitted
from dbx.program.replay.replay import Replay
from dbx.program.slots.slots import Slot, row_names


def mapped(data, reference, replay: Replay, step: Step, *, own: bool) -> Result:
    """One step applied to the data, and how it is recorded there."""
    operator = fitted(reference, replay.registry, step)
    rows = _rows(data, reference, replay, step, operator, own=own)
    outputs = {**replay.run(step, operator, rows), **_kept_views(operator)}
    values, writes = placed(data, step, operator, outputs, own=own)
    constants = dict(step.constants)
    if any(name in step.writes and name not in writes for name in _of_cells(outputs, operator)):
        constants = {}  # X was not written
    if any(writes.get(name, slot) != slot for name, slot in step.writes.items()):
        # edges to other cells: scanpy's settings of the graph do not hold here
        constants = {Slot("uns", ("reference_cells",), step.mod): cells_digest(reference, step.mod)}
    if own:  # tests of these cells, which are not repeated, stay where they are
        writes = {name: slot for name, slot in step.writes.items() if name not in outputs} | writes
    step = step_again(
        data,
        step,
        operator,
        writes=writes,
        values=values,
        n_cells=replay.n_cells,
        mapped=step.mapped or not own,
        keep_prints=own,
    )
    return Result(operator, outputs, {**values, **constants}, step)


def _of_cells(outputs: Mapping[str, Any], operator: Operator) -> list[str]:
    """Names of the outputs computed for cells."""
    return [name for name in outputs if not operator.outputs[name].view]


def refitted(
    data, replay: Replay, step: Step, written: Mapping[Slot, Any], changed: Step | None = None, *, keeps: bool = False
) -> Result:
    """A step fitted again; from its state if that is wanted, or if its new settings do not change the fit."""
    keeps = keeps or (changed is not None and changed.build().fit_config == step.build().fit_config)
    step = changed or step
    operator, outputs, genes = replay.conclude(step) if keeps else replay.refit(step)
    goes_on = keeps and operator.resumes
    trained = step.trained if goes_on else {k: v for k, v in step.trained.items() if k == "key_added"}
    step = replace(step, genes=genes, trained=trained)
    values, writes = placed(data, step, operator, outputs, own=True)
    step = step_again(
        data, step, operator, writes=writes, values=values, n_cells=replay.n_cells, mapped=False, pending=written
    )
    return Result(operator, outputs, {**values, **step.constants}, step)


def kept(data, step: Step) -> Result:
    """A selection made on the reference, written unchanged for the query's genes."""
    operator = step.build()
    outputs = _kept_views(operator)
    values, writes = placed(data, step, operator, outputs, own=False)
    step = step_again(
        data, step, operator, writes=writes, values=values, n_cells=step.n_cells, mapped=True, keep_prints=False
    )
    return Result(operator, outputs, {**values, **step.constants}, step)


def is_selection(step: Step) -> bool:
    """Whether a step computes nothing for cells but leaves something of genes that holds on other cells, too."""
    if step.maps_cells():
        return False
    outputs = step.build().outputs
    return step.filters("genes") or any(not outputs[name].inference for name in step.writes)


def _kept_views(operator: Operator) -> dict[str, Any]:
    """Views that hold for other cells: selections and loadings, not inferences about the fitted cells."""
    return {name: value for name, value in views(operator).items() if not operator.outputs[name].inference}


def _rows(data, reference, replay: Replay, step: Step, operator: Operator, *, own: bool) -> np.ndarray:
    """Each cell's row among the reference cells: itself, or -1 for a cell that is not, or not the same, there."""
    if own or not own_rows(operator, None):
        return np.arange(replay.n_cells, dtype=np.int32)
    names, known = row_names(data, Slot("obs", mod=step.mod)), row_names(reference, Slot("obs", mod=step.mod))
    if not known.is_unique:
        return np.full(len(names), -1, np.int32)
    rows = known.get_indexer(names).astype(np.int32)
    references = reference_values(operator)
    for attribute, port in operator.references.items():
        if port in step.reads and (rows >= 0).any():
            here, there = _as_array(replay.input(step, operator, port)), _as_array(references[attribute])
            rows[rows >= 0] = np.where(_alike(here[rows >= 0], there[rows[rows >= 0]]), rows[rows >= 0], -1)
    return rows


def _as_array(value: Any) -> np.ndarray:
    """Cells of an input as an array of shape (n_cells, n_columns): numbers, or text of categories that are none."""
    if isinstance(value, Mapping):
        return np.column_stack([_as_array(column) for column in value.values()])
    if isinstance(value, Codes):
        codes = np.asarray(value.codes)
        value = np.array([*value.levels, "nan"])[codes] if value.not_numbers else replace(value, codes=codes).numbers()
    value = value.dense() if isinstance(value, RowBlocks) else np.asarray(value)
    return value.reshape(len(value), -1)


def _alike(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Which cells have the same values, up to rounding."""
    if "U" in here.dtype.kind + there.dtype.kind:
        return (here.astype(str) == there.astype(str)).all(axis=1)
    scale = np.nanmax(np.abs(there), initial=1e-12)
    return np.isclose(here, there, rtol=1e-4, atol=1e-4 * scale, equal_nan=True).all(axis=1)
