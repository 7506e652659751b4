"""The part of a program that training moves: from the trained steps to the slots that are judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.values import Codes, Edges
from dbx.program.pipeline.path import check_differentiable
from dbx.program.pipeline.pipeline import Pipeline
from dbx.program.pipeline.values import root_values
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.replay.location import Location
from dbx.program.replay.plan import Plan, Version, read_versions
from dbx.program.replay.reference import fitted
from dbx.program.replay.replay import Replay
from dbx.program.replay.sources import replayed, roots_of
from dbx.program.slots.kinds import KINDS
from dbx.program.slots.slots import Slot

MOST_CELLS = 10_000
"""Cells that training can pass through a step whose results depend on all of them."""


@dataclass
class Chain:
    """Row-wise steps, one differentiable function of their parameters, and where it starts."""

    trained: list[Step]
    pipeline: Pipeline
    replay: Replay
    """Has the values that the chain starts from."""
    slot: Slot
    """What is judged where an objective names no slot."""

    @property
    def steps(self) -> list[Step]:
        """In their order."""
        return self.pipeline.plan.steps

    def version(self, slot: str) -> Version:
        """The version of a slot that the chain writes last."""
        return Version(Slot.parse(slot), next(step.id for step in reversed(self.steps) if slot in step.writes.values()))

    @property
    def together(self) -> bool:
        """Whether a result of a step depends on all cells, which then pass the chain at once."""
        return any(step.operator_class.of_all_cells for step in self.steps)

    @property
    def neighbours(self) -> np.ndarray | None:
        """Neighbours of each cell in the graph that the chain passes, an array of shape (n_cells, width), int32."""
        found = {name: operator.neighbours for name, operator in self.pipeline.operators.items()}
        graphs = {name: neighbours for name, neighbours in found.items() if neighbours is not None}
        if len(graphs) > 1:
            msg = f"Training passes one graph of neighbours, not {', '.join(graphs)}: judge a slot of one of them."
            raise ValueError(msg)
        return next(iter(graphs.values()), None)

    def sequences(self) -> np.ndarray | None:
        """Number of the sequence of each cell, where the chain passes whole sequences; None where it does not.

        Raises
        ------
        ValueError
            Two steps have different sequences.
        """
        found: dict[str, np.ndarray] = {}
        for step in self.steps:
            name = step.operator_class.in_sequences
            if name is not None:
                slot = step.reads[name].slots[0] if name in step.reads else None
                found[step.name] = np.zeros(self.replay.n_cells, int) if slot is None else self._codes(slot)
        first = next(iter(found.values()), None)
        if first is not None and not all(np.array_equal(first, other) for other in found.values()):
            msg = f"Training passes whole sequences, and {', '.join(found)} have different ones: train one of them."
            raise ValueError(msg)
        return first

    def _codes(self, slot: Slot) -> np.ndarray:
        return np.asarray(cast(Codes, self.roots()[slot]).codes)

    @property
    def computed(self) -> set[str]:
        """Slots that are computed for cells."""
        outputs = {step.id: step.operator_class.outputs for step in self.steps}
        return {slot for step in self.steps for name, slot in step.writes.items() if not outputs[step.id][name].view}

    def roots(self) -> dict[str, RowBlocks | Codes | Edges | np.ndarray]:
        """Slot -> what the chain starts from: rows with the genes the pipeline wants, codes or numbers of columns.

        A graph that the trained steps do not compute is there for all cells at once, and its weights stay.
        """
        return root_values(self.pipeline, self.replay)


def make_chain(
    registry: Registry,
    location: Location,
    n_cells: int,
    train: Iterable[str],
    slots: Iterable[str | None],
    steps: Iterable[str] | None = None,
) -> Chain:
    """The chain from the steps named ``train`` to ``slots``, within the steps named ``steps``.

    Without a slot it ends at what the last trained step writes for cells, or the last of ``steps``.

    Raises
    ------
    ValueError
        A step has nothing to train, or is not among ``steps``; a slot does not depend on it; a step between them does
        not work row by row.
    """
    allowed = None if steps is None else {registry[name].name for name in steps}
    trained = sorted((registry[name] for name in train), key=lambda step: step.at)
    for step in trained:
        if not any(kind == "parameter" for kind, _ in step.arrays.values()):
            able = [s.name for s in registry if any(kind == "parameter" for kind, _ in s.arrays.values())]
            msg = f"Step {step.name!r} has no parameters to train; those that have: {', '.join(able) or 'none'}."
            raise ValueError(msg)
    last = trained[-1] if allowed is None else max((registry[name] for name in allowed), key=lambda step: step.at)
    named = [None if slot is None else Slot.parse(slot, last.mod) for slot in slots]
    usual = _cell_slot(last) if None in named else cast(Slot, named[0])
    judged = dict.fromkeys(usual if slot is None else slot for slot in named)
    ends = [_writer(registry, slot, trained) for slot in judged]
    between = [step for step in registry if any(_between(registry, step, trained, end) for end in ends)]
    _check_allowed(between, trained, allowed)
    _check_trainable(between)
    _check_size(between, n_cells)
    check_differentiable(between)
    roots = roots_of(registry, between)
    replay = replayed(registry, location, n_cells, roots)
    for version in _of_fitted_cells(registry, between):
        if location.available(version):
            replay.env[version] = location.value(version)
    operators = {step.name: fitted(location.data, registry, step) for step in between}
    return Chain(trained, Pipeline(registry, Plan(between, roots), operators), replay, usual)


def _writer(registry: Registry, slot: Slot, trained: list[Step]) -> Step:
    """The step that wrote a judged slot, which must follow from the trained ones."""
    end = registry.writer(slot)
    for step in trained:
        if end is None or not (end.id == step.id or registry.depends(end, step.id)):
            msg = f"{slot.written()} is not computed from what {step.name!r} writes."
            raise ValueError(msg)
    return cast(Step, end)


def _check_allowed(between: list[Step], trained: list[Step], allowed: set[str] | None) -> None:
    if allowed is None:
        return
    outside = [step.name for step in (*trained, *between) if step.name not in allowed]
    if outside:
        msg = (
            f"steps={sorted(allowed)} leaves out {outside[0]!r}, which is trained or comes between a trained step and "
            "what is judged: add it, or judge an earlier slot."
        )
        raise ValueError(msg)


def _cell_slot(step: Step) -> Slot:
    """The coordinates that a step writes for cells, or else the first matrix."""
    outputs = step.operator_class.outputs
    matrices = {
        name: slot
        for name, slot in step.writes.items()
        if not outputs[name].view and slot.container in ("obsm", "layers", "X")
    }
    coordinates = [slot for name, slot in matrices.items() if outputs[name].content == "embedding"]
    found = [*coordinates, *matrices.values()]
    if not found:
        msg = f"Step {step.name!r} writes no coordinates of cells: name what is judged, slot=..."
        raise ValueError(msg)
    return found[0]


def _between(registry: Registry, step: Step, trained: list[Step], end: Step) -> bool:
    after = any(step.id == t.id or registry.depends(step, t.id) for t in trained)
    return after and (step.id == end.id or registry.depends(end, step.id))


def _check_trainable(steps: list[Step]) -> None:
    for step in steps:
        operator = step.operator_class
        given = {name: port for name, port in operator.inputs.items() if not port.of_fitted_cells}
        kinds = {name: KINDS[port.kind] for name, port in given.items()}
        used = [kind for name, kind in kinds.items() if name in step.reads or not kind.from_slots]
        alone = operator.rowwise and all(kind.by_cell for kind in used)
        whole = operator.blockwise or operator.of_all_cells or operator.in_sequences is not None
        if not alone and not whole:
            msg = (
                f"Step {step.name!r} does not work on each cell by itself, and training through it is not possible: "
                "judge a slot before it."
            )
            raise ValueError(msg)


def _check_size(steps: list[Step], n_cells: int) -> None:
    """Refuse more cells than can pass a step whose results depend on all of them."""
    together = [step.name for step in steps if step.operator_class.of_all_cells]
    if together and n_cells > MOST_CELLS:
        msg = (
            f"Training passes {together[0]!r} with all cells at once, up to {MOST_CELLS:,} of them; there are "
            f"{n_cells:,}. Train on some of them, and map the others: part = dbx.pp.sample(adata, n={MOST_CELLS // 2}, "
            "copy=True), the steps again on this part, dbx.optimize(part, ...), dbx.rerun(adata, reference=part)."
        )
        raise ValueError(msg)


def _of_fitted_cells(registry: Registry, steps: list[Step]) -> list[Version]:
    """What steps that are fitted again after a stage need only for that."""
    return [
        version
        for step in steps
        if step.operator_class.of_all_cells
        for name, entry in step.reads.items()
        if step.operator_class.inputs[name].of_fitted_cells
        for version in read_versions(registry, step, entry)
    ]
