"""The results of trained steps before they were trained."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from dbx.data.blocks import RowBlocks, block_rows
from dbx.program.pipeline.path import Path, make_path
from dbx.program.pipeline.values import rows_of
from dbx.program.record.registry import load
from dbx.program.replay.location import Location
from dbx.program.slots.slots import Slot, read, row_names

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def frozen_coordinates(data: AnnData | MuData, slot: Slot) -> np.ndarray:
    """A slot of cells as its steps would give it with the parameters that :func:`dbx.optimize` started from.

    Raises
    ------
    ValueError
        Nothing was optimised; the slot is not computed from what was trained, or not cell by cell.
    """
    registry, before = load(data), read(data, Slot("uns", ("optimize",), slot.mod))["before"]
    known = [registry[name] for name in before if name in {step.name for step in registry}]
    location = Location(data, registry, {}, own=True)
    n_cells = len(row_names(data, Slot("obs", mod=slot.mod)))
    for step in sorted(known, key=lambda step: step.at):
        first = next(iter(step.reads.values())).slots[0]
        try:
            path = make_path(data, registry, location, n_cells, (first, slot), step.name)
        except ValueError as error:
            reason = error
            continue
        lasting = [name for name, operator in path.pipeline.operators.items() if operator.references]
        if lasting:
            msg = f"{lasting[0]!r} keeps every cell in its place, before and after training: draw a slot before it."
            raise ValueError(msg)
        here = {name: dict(named) for name, named in before.items() if name in path.pipeline.operators}
        return _computed(path, here, n_cells)
    msg = f"{slot.written()} is not computed from what was trained ({', '.join(before)})."
    raise ValueError(msg) from (reason if known else None)


def _computed(path: Path, parameters: Mapping[str, Mapping[str, Any]], n_cells: int) -> np.ndarray:
    widest = max((x.n_columns for x in path.values.values() if isinstance(x, RowBlocks)), default=64)
    size, parts = min(block_rows(n_cells, widest), n_cells), []
    run = jax.jit(partial(_run, path, path.end))
    for start in range(0, n_cells, size):
        rows = np.minimum(np.arange(start, start + size), n_cells - 1)
        parts.append(np.asarray(run(parameters, rows_of(path.values, rows)))[: n_cells - start])
    return np.concatenate(parts)


def _run(path: Path, end: str, parameters, values):
    return path.pipeline(parameters, values)[end]
