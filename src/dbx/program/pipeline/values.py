"""What a pipeline starts from, as its steps take it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import take
from dbx.ops.values import Edges, Graph
from dbx.program.record.registry import Registry
from dbx.program.replay.plan import read_versions
from dbx.program.replay.replay import Replay, gene_columns
from dbx.program.slots.slots import Slot, as_codes

if TYPE_CHECKING:
    from dbx.program.pipeline.pipeline import Pipeline


def root_values(registry: Registry, pipeline: Pipeline, replay: Replay) -> dict[str, Any]:
    """Slot -> host value of what a pipeline starts from: the genes it wants, codes against the recorded levels."""
    values: dict[str, Any] = {}
    for version in pipeline.plan.roots:
        slot, found = Slot.parse(version.slot), replay.env[version]
        if slot.container == "obsp":
            values[version.slot] = Edges(sparse.csr_matrix(found.value), -2 - np.arange(replay.n_cells, dtype=np.int32))
            continue
        if slot.container == "obs":
            reads = (
                r for s in pipeline.plan.steps for r in s.reads.values() if version in read_versions(registry, s, r)
            )
            levels = next(reads).levels.get(slot.keys[-1])
            values[version.slot] = (
                np.asarray(found.value, np.float32) if levels is None else as_codes(found.value, tuple(levels))
            )
            continue
        array = found.value.to_numpy() if hasattr(found.value, "to_numpy") else found.value
        blocks, genes = RowBlocks(array, dtype=np.float32), pipeline.inputs[version.slot]
        columns = None if genes is None else gene_columns(found.genes, genes, pipeline.plan.steps[0].name, "raise")
        values[version.slot] = blocks if columns is None else blocks.select(columns)
    return values


def rows_of(values: Mapping[str, Any], rows: np.ndarray) -> dict[str, Any]:
    """Some rows of host values, dense, as a pipeline takes them."""
    return {slot: _some(x, rows) for slot, x in values.items()}


def _some(x, rows: np.ndarray):
    if isinstance(x, Edges):
        width = int(np.diff(x.matrix.indptr).max(initial=1))
        return Graph.from_csr(x.matrix[rows], rows=x.rows[rows], width=width)
    return x.dense(rows) if isinstance(x, RowBlocks) else take(x, rows)
