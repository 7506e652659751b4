"""What a part of a program starts from: found in the data or computed again, and as its steps take it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.replay.location import Location
from dbx.program.replay.plan import Version, make_plan, read_versions
from dbx.program.replay.reference import fitted
from dbx.program.replay.replay import Replay


def fed(registry: Registry, step: Step) -> Iterator[Version]:
    """What a step reads to map cells, without what only its fit needs."""
    ports = step.operator_class.inputs
    for name, entry in step.reads.items():
        if not ports[name].of_fitted_cells:
            yield from read_versions(registry, step, entry)


def roots_of(registry: Registry, steps: Iterable[Step]) -> list[Version]:
    """What steps read that none of them writes."""
    steps = list(steps)
    made = {step.id for step in steps}
    return list(dict.fromkeys(v for step in steps for v in fed(registry, step) if v.writer not in made))


def replayed(registry: Registry, location: Location, n_cells: int, roots: Iterable[Version]) -> Replay:
    """The versions that steps start from: as stored in the data, or computed again from what is stored."""
    replay = Replay(registry, n_cells)
    lacking = [version for version in roots if not location.available(version)]
    if lacking:
        writers = [step for version in lacking if (step := registry.by_id(version.writer)) is not None]
        names = [step.name for step in writers]
        plan = make_plan(registry, location.available, names=names, genes_removed=location.genes_removed)
        if plan.excluded or len(writers) < len(lacking):
            reasons = "; ".join(f"{name!r}: {reason}" for name, reason in plan.excluded.items())
            slot = lacking[0].slot
            msg = (
                f"{slot.written()} is not any more what the program read there, and cannot be computed again"
                f"{f' ({reasons})' if reasons else ''}. Keep counts in a layer, or name where they are: "
                f'inputs={{"X": "layers/..."}}.'
            )
            raise ValueError(msg)
        replay.env.update({version: location.value(version) for version in plan.roots})
        for step in plan.steps:
            replay.run(step, fitted(location.data, registry, step), np.arange(n_cells, dtype=np.int32))
    replay.env.update({version: location.value(version) for version in roots if version not in lacking})
    return replay
