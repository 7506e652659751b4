"""What a part of a program starts from: found in the data or computed again, and as its steps take it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import take
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.values import Edges, Graph
from dbx.program.location import Location
from dbx.program.pipeline import Pipeline
from dbx.program.plan import Version, make_plan, read_versions
from dbx.program.reference import fitted
from dbx.program.registry import Registry
from dbx.program.replay import Replay, gene_columns
from dbx.program.slots import Slot, as_codes
from dbx.program.step import Step


def fed(registry: Registry, step: Step) -> Iterator[Version]:
    """What a step reads to map cells, without what only its fit needs."""
    ports = CATALOGUE[step.operator].inputs
    for name, entry in step.reads.items():
        if not ports[name].of_fitted_cells:
            yield from read_versions(registry, step, entry)


def roots_of(registry: Registry, steps: Iterable[Step]) -> list[Version]:
    """What steps read that none of them writes."""
    steps = list(steps)
    made = {step.id for step in steps}
    return list(dict.fromkeys(v for step in steps for v in fed(registry, step) if v.writer not in made))


def replayed(registry: Registry, location: Location, n_cells: int, roots: Iterable[Version]) -> Replay:
    """The versions that steps start from: as they lie in the data, or computed again from what does."""
    replay = Replay(registry, n_cells)
    lacking = [version for version in roots if not location.available(version)]
    if lacking:
        writers = [step for version in lacking if (step := registry.by_id(version.writer)) is not None]
        plan = make_plan(registry, location.available, names=[step.name for step in writers])
        if plan.excluded or len(writers) < len(lacking):
            reasons = "; ".join(f"{name!r}: {reason}" for name, reason in plan.excluded.items())
            slot = Slot.parse(lacking[0].slot)
            msg = (
                f"{slot.written()} is not any more what the program read there, and cannot be computed again"
                f"{f' ({reasons})' if reasons else ''}. Keep counts in a layer, or say where they are: "
                f'inputs={{"X": "layers/..."}}.'
            )
            raise ValueError(msg)
        replay.env.update({version: location.value(version) for version in plan.roots})
        for step in plan.steps:
            replay.run(step, fitted(location.data, step), np.arange(n_cells, dtype=np.int32))
    replay.env.update({version: location.value(version) for version in roots if version not in lacking})
    return replay


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
