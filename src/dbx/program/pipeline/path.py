"""The part of a program between two slots, as a function of the first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import jax
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Operator
from dbx.ops.values import Codes, Edges, Graph
from dbx.program.pipeline.pipeline import Pipeline
from dbx.program.pipeline.values import root_values
from dbx.program.record.copies import alike
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.replay.location import Location
from dbx.program.replay.plan import Plan, Version, read_versions
from dbx.program.replay.reference import fitted
from dbx.program.replay.sources import fed, replayed, roots_of
from dbx.program.slots.kinds import KINDS
from dbx.program.slots.slots import Slot, exists, read

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

PROBABILITIES = Slot("obsm", ("probabilities of labels",))
"""Where the pipeline of a path to labels leaves their probabilities, if the program keeps them nowhere."""


@dataclass
class Path:
    """Steps that lead from one version of a slot to another slot."""

    start: Version
    end: Slot
    """The slot at the end, as the pipeline names it."""
    labels: Slot | None
    """The slot of the labels that the columns of the end are the probabilities of."""
    pipeline: Pipeline
    values: dict[str, RowBlocks | Codes | Edges | np.ndarray]
    """What the pipeline starts from, by slot; the start among them."""

    @property
    def features(self) -> list[str] | None:
        """Names of the genes of the start, None where its columns are not genes."""
        return self.pipeline.inputs[self.start.slot]

    @property
    def n_features(self) -> int:
        """Number of columns of the start."""
        return cast(RowBlocks, self.values[self.start.slot]).n_columns

    def columns(self, rows: dict[str, Any]) -> list[str]:
        """Names of the columns of the end: labels where it has any, else numbers. ``rows`` are values of a few cells.

        Raises
        ------
        ValueError
            The end cannot be differentiated.
        """
        states, n_cells = self.pipeline.states, rows[self.start.slot].shape[0]
        made = jax.eval_shape(lambda s, r: self.run(s, r, np.full(n_cells, -1, np.int32)), states, rows)
        end = made[self.end]
        if isinstance(end, Codes | Graph):
            kind = "labels without probabilities" if isinstance(end, Codes) else "a graph"
            msg = f"{self.end.written()} holds {kind}, which have no gradient: name an embedding."
            raise ValueError(msg)
        width = 1 if len(end.shape) == 1 else end.shape[1]
        levels = self._levels if self.labels is None else made[self.labels].levels
        return list(levels[:width]) if len(levels) >= width else [str(i) for i in range(width)]  # unassigned comes last

    @property
    def _levels(self) -> tuple[str, ...]:
        """Names that the last step has of the columns of its results, such as ends of fate probabilities."""
        last = next(step for step in reversed(self.pipeline.plan.steps) if self.end in step.writes.values())
        return column_names(self.pipeline.operators[last.name], last, self.end)

    def run(self, states: dict[str, Any], values: dict[str, Any], rows) -> dict[str, Any]:
        """The slots that the steps write."""
        return self.pipeline.with_states(states)({}, values, rows=rows)


def column_names(operator: Operator, step: Step, slot: Slot) -> tuple[str, ...]:
    """Names of the columns of a slot that a step writes, none where they have no names."""
    name = next(name for name, address in step.writes.items() if address == slot)
    return tuple(getattr(operator, "levels", ())) if operator.outputs[name].levels else ()


def make_path(
    data: AnnData | MuData, registry: Registry, location: Location, n_cells: int, ends: tuple[Slot, Slot], reader=None
) -> Path:
    """The path between two slots.

    ``reader`` names the step whose version of the first slot is meant.

    Raises
    ------
    ValueError
        The second slot is not computed from the first, or a step between them cannot be differentiated.
    """
    first, last = ends
    end = _writer(data, registry, last)
    before = _before(registry, end)
    start = _start(data, registry, location, before, ends, reader)
    steps, made = [], set()
    for step in before:
        if any(version == start or version.writer in made for version in fed(registry, step)):
            steps.append(step)
            made.add(step.id)
    _check_rowwise(steps)
    check_differentiable(steps)
    roots = roots_of(registry, steps)
    if len({version.slot for version in roots}) < len(roots):
        msg = f"The steps between {first.written()} and {last.written()} start from several versions of one slot."
        raise ValueError(msg)
    written, labels = _probabilities(end, last)
    steps = [replace(step, writes={**step.writes, **written}) if step is end else step for step in steps]
    pipeline = Pipeline(registry, Plan(steps, roots), {step.name: fitted(data, registry, step) for step in steps})
    replay = replayed(registry, location, n_cells, roots)
    target = written.get("probabilities", last)
    return Path(start, target, labels, pipeline, root_values(pipeline, replay))


def _writer(data, registry: Registry, slot: Slot) -> Step:
    step = registry.writer(slot)
    if step is None:
        read(data, slot)
        msg = f"{slot.written()} was not written by a recorded step (dbx.steps shows them): it cannot be traced back."
        raise ValueError(msg)
    name = next(name for name, address in step.writes.items() if address == slot)
    if step.operator_class.outputs[name].view:
        msg = (
            f"{slot.written()} is what {step.name!r} learnt from all cells, not a function of each: it has no gradient."
        )
        raise ValueError(msg)
    return step


def _before(registry: Registry, end: Step) -> list[Step]:
    """The steps that a step's outputs for cells are computed by, itself the last, in the order they ran."""
    found, queue = {end.id: end}, [end]
    while queue:
        step = queue.pop()
        for version in fed(registry, step):
            source = registry.by_id(version.writer)
            if source is None and version.writer is not None:
                msg = (
                    f"Step {step.name!r} is stale: the {version.slot} it read was computed again since. Run it again "
                    "first."
                )
                raise ValueError(msg)
            if source is not None and source.id not in found:
                found[source.id] = source
                queue.append(source)
    return [step for step in registry if step.id in found]


def _start(data, registry: Registry, location: Location, before: list[Step], ends, reader: str | None) -> Version:
    """The version of the first slot that is meant: the last that is read on the way."""
    first, last = ends
    reads = [(step, version) for step in before for version in fed(registry, step)]
    here = [(step, version) for step, version in reads if version.slot == first]
    if not here:  # a copy of what the program started from, or of what a step wrote
        here = [(s, v) for s, v in reads if alike(v.slot, first) and location.holds(v, first)]
    if not here:
        if exists(data, first):
            slots = ", ".join(dict.fromkeys(version.slot for _, version in reads))
            msg = f"{last.written()} is not computed from {first.written()}, but from {slots}."
            raise ValueError(msg)
        read(data, first)
    if reader is not None:
        readers = [step.name for step, _ in here]
        here = [(step, version) for step, version in here if step.name == reader]
        if not here:
            msg = f"Step {reader!r} does not read {first.written()} on the way to {last.written()}; {readers} do."
            raise ValueError(msg)
    step, version = max(here, key=lambda found: found[0].at)
    ports = [step.operator_class.inputs[name] for name in _inputs(registry, step, version)]
    if not all(KINDS[port.kind].numeric for port in ports):
        msg = f"{first.written()} is not a matrix of numbers: no gradient can be taken in it."
        raise ValueError(msg)
    return version


def _inputs(registry: Registry, step: Step, version: Version) -> list[str]:
    return [name for name, entry in step.reads.items() if version in read_versions(registry, step, entry)]


def _check_rowwise(steps: Iterable[Step]) -> None:
    for step in steps:
        if not step.operator_class.rowwise:
            msg = f"Step {step.name!r} does not map each cell by itself: a cell has no gradient through it."
            raise ValueError(msg)


def check_differentiable(steps: Iterable[Step]) -> None:
    """Refuse steps whose settings leave them without a gradient, by name."""
    for step in steps:
        try:
            step.build().check_differentiable()
        except ValueError as error:
            msg = f"Step {step.name!r} cannot be differentiated: {error}"
            raise ValueError(msg) from None


def _probabilities(end: Step, slot: Slot) -> tuple[dict[str, Slot], Slot | None]:
    """(slots that the last step should write in addition, the slot of the labels), where it predicts labels."""
    outputs = end.operator_class.outputs
    name = next(name for name, address in end.writes.items() if address == slot)
    if "labels" not in outputs or name not in ("labels", "probabilities"):
        return {}, None
    labels = end.writes.get("labels", Slot("obs", ("labels",)))
    if name == "labels" and "probabilities" in outputs:
        return {"labels": labels, "probabilities": PROBABILITIES}, labels
    return {"labels": labels}, labels
