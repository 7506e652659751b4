"""Values from an AnnData into a pipeline, and trained parameters back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.ops.checks import UnknownNameError
from dbx.ops.operator import Operator
from dbx.ops.state import state_arrays
from dbx.program import log
from dbx.program.pipeline.values import Composed, root_values, rows_of
from dbx.program.record.commit import commit
from dbx.program.record.registry import Registry, load
from dbx.program.record.step import Step
from dbx.program.replay.location import Location
from dbx.program.replay.plan import Version
from dbx.program.replay.recompute import run_again, with_parameters
from dbx.program.replay.sources import fed, replayed, roots_of
from dbx.program.replay.start import Start
from dbx.program.slots.slots import Slot, holder

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def read_values(pipeline: Composed, data: AnnData | MuData, cells: np.ndarray | None = None) -> dict[str, Any]:
    """What the pipeline starts from, for some cells of the data it was made of or of others."""
    own = _is_own(pipeline, load(data))
    begin = None if own else Start(data, pipeline.registry, {})
    location = Location(data, pipeline.registry, {}, own=own, start=begin)
    if begin is not None:
        _check_start(pipeline, location, begin)
    n_cells = _n_cells(data, pipeline)
    replay = replayed(pipeline.registry, location, n_cells, pipeline.plan.roots)
    if not own:
        for step in pipeline.plan.steps:
            replay.check(step, pipeline.operators[step.name])
    rows = np.arange(n_cells) if cells is None else np.arange(n_cells)[cells]
    return rows_of(root_values(pipeline, replay), rows)


def _check_start(pipeline: Composed, location: Location, begin: Start) -> None:
    """Say where new cells have what the pipeline starts from; refuse those that hold what one of its steps writes."""
    for version in pipeline.plan.roots:
        location.available(version)
    said = " ".join(dict.fromkeys(begin.said))
    if begin.places:
        msg = (
            f"{said} A pipeline cannot: it starts from the slots as they were before the program. Pass raw counts, or "
            "map these cells by dbx.rerun(query, reference)."
        )
        raise ValueError(msg)
    if said:
        log.warn(said)


def write_parameters(pipeline: Composed, data: AnnData | MuData, parameters: Mapping[str, Mapping[str, Any]]) -> None:
    """Record steps with new parameters, and write what they and the steps after them give now."""
    registry = load(data)
    if not _same(pipeline, registry) or any(registry[s.name].mapped for s in pipeline.plan.steps):
        msg = (
            "The program was run or trained since this pipeline was made, or the pipeline is of other data: make it "
            "again, Pipeline.from_adata(adata)."
        )
        raise ValueError(msg)
    given = {name: _with(pipeline, name, named) for name, named in parameters.items()}
    moved = {name: operator for name, operator in given.items() if operator is not None}
    steps = _to_run(registry, pipeline, set(moved))
    location = Location(data, registry, {}, own=True)
    replay = replayed(registry, location, _n_cells(data, pipeline), roots_of(registry, steps))
    values: dict[Slot, Any] = {}
    versions: dict[Version, Version] = {}
    for step in steps:
        operator = moved.get(step.name, pipeline.operators[step.name])
        how = {"loss": "a training loop of your own (Pipeline.write)"} if step.name in moved else None
        run_again(data, registry, replay, step, operator, versions, values, trained=how)
    commit(data, registry, values)


def _is_own(pipeline: Composed, registry: Registry) -> bool:
    """Whether these cells went through the steps themselves, though parameters may have been written since."""
    known = {step.name: step for step in registry}
    return all(step.name in known and not known[step.name].mapped for step in pipeline.plan.steps)


def _same(pipeline: Composed, registry: Registry) -> bool:
    """Whether the pipeline's steps are those recorded here, none of them run again since."""
    known = {step.name: step.id for step in registry}
    return all(known.get(step.name) == step.id for step in pipeline.plan.steps)


def _with(pipeline: Composed, name: str, named: Mapping[str, Any]) -> Operator | None:
    """A step's operator with these parameters, None where they are what they were."""
    if name not in pipeline.operators:
        msg = f"The pipeline has no step {name!r}; it has {', '.join(pipeline.operators)}."
        raise UnknownNameError(msg)
    operator = pipeline.operators[name]
    arrays = state_arrays(operator)
    known = {key for key, (kind, _) in arrays.items() if kind == "parameter"}
    for key, value in named.items():
        value = np.asarray(value)
        if key not in known or value.shape != arrays[key][1].shape:
            shapes = ", ".join(f"{k} {arrays[k][1].shape}" for k in sorted(known)) or "none"
            msg = f"Step {name!r} has no parameter {key} of shape {value.shape}; it has {shapes}."
            raise UnknownNameError(msg)
        if not np.isfinite(value).all():
            msg = f"The parameter {key} of step {name!r} is not finite."
            raise ValueError(msg)
    new = {key: np.asarray(value, arrays[key][1].dtype) for key, value in named.items()}
    same = all(np.array_equal(value, arrays[key][1]) for key, value in new.items())
    return None if same else with_parameters(operator, new)


def _to_run(registry: Registry, pipeline: Composed, moved: set[str]) -> list[Step]:
    """The moved steps, and those after them that map each cell by itself; layouts and partitions become stale."""
    steps, made = [], set()
    for step in pipeline.plan.steps:
        after = any(version.writer in made for version in fed(registry, step))
        transductive = bool(pipeline.operators[step.name].references) or not pipeline.operators[step.name].rowwise
        if step.name in moved or (after and not transductive):
            steps.append(step)
            made.add(step.id)
    return steps


def _n_cells(data, pipeline: Composed) -> int:
    mod = pipeline.plan.steps[0].mod
    return holder(data, Slot("obs", mod=mod)).n_obs
