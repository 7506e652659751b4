"""New cells at a value that no recorded step made: refused with the cure, or taken as far as they can go."""

from __future__ import annotations

from collections.abc import Callable, Collection

from dbx.program import log
from dbx.program.record.holes import Hole, holes_of
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.replay.plan import Plan, Version, excluded_text
from dbx.program.slots.slots import Slot

PARTIAL = " To go as far as new cells can: dbx.rerun(..., partial=True)."


def check_whole(registry: Registry, plan: Plan, available: Callable[[Version], bool]) -> None:
    """Refuse new cells that cannot go through every wanted step.

    Raises
    ------
    ValueError
        A wanted step reads what was computed outside the program, is stale or cannot run for another reason; says up
        to which step new cells can go.
    """
    found = _found(registry, plan, available)
    if found:
        msg = f"{_upto(plan)} {' '.join(map(_sentence, found))}{_behind(plan, found)}{_instead(plan)}"
        raise ValueError(msg)
    excluded = {name: reason for name, reason in plan.excluded.items() if name not in _lacking(registry, plan)}
    if excluded:
        msg = f"{_upto(plan)} {excluded_text(excluded)}{_instead(plan)}"
        raise ValueError(msg)


def left_out(registry: Registry, plan: Plan, available: Callable[[Version], bool]) -> str | None:
    """Which steps run and which do not and why, None if all do.

    Raises
    ------
    ValueError
        None can run.
    """
    if not plan.excluded:
        return None
    causes = {hole.step: f"it reads {hole.reason('reference')}" for hole in _found(registry, plan, available)}
    reasons = {name: causes.get(name, reason) for name, reason in plan.excluded.items()}
    if not plan.steps:
        msg = f"The cells cannot go through any of the steps. {excluded_text(reasons)}"
        raise ValueError(msg)
    return f"Run: {', '.join(step.name for step in plan.steps)}. {excluded_text(reasons)}"


def warn_of_own_values(registry: Registry, roots: Collection[Version], named: Collection[Slot]) -> None:
    """Warn of values that new cells bring and no step computes, except where the user named them."""
    for step in registry:
        for hole in holes_of(step):
            if hole.gap is None and Version(hole.slot, None) in roots and hole.slot not in named:
                log.warn(
                    f"Step {step.name!r} takes {hole.slot.written()} of the new cells as it is, because no recorded "
                    f"step computes it{f' (by its traces {hole.maker} did)' if hole.maker else ''}. It must have been "
                    "computed with what was fitted on the reference; values fitted on the new cells mean something "
                    f'else. To say that it was: inputs={{"{hole.slot}": "{hole.slot}"}}.'
                )


def _found(registry: Registry, plan: Plan, available: Callable[[Version], bool]) -> list[Hole]:
    """What keeps steps from running and was computed outside the program; also behind steps that were left out."""
    queue, seen, found = [registry[name] for name in plan.excluded], set(), []
    while queue:
        step = queue.pop(0)
        if step.id in seen or step in plan.steps:
            continue
        seen.add(step.id)
        found += [hole for hole in holes_of(step) if not available(_version(step, hole))]
        queue += [source for number in step.sources() if (source := registry.by_id(number)) is not None]
    return sorted(found, key=lambda hole: [step.name for step in registry].index(hole.step))


def _version(step: Step, hole: Hole) -> Version:
    return Version(hole.slot, None, None if hole.gap is None else step.id)


def _lacking(registry: Registry, plan: Plan) -> set[str]:
    """Names of the steps that cannot run because new cells lack something measured."""
    lacking = {registry[name].id for name in plan.missing.values()}
    ids = {registry[name].id: name for name in plan.excluded}
    return {name for i, name in ids.items() if any(i == j or registry.depends(registry[name], j) for j in lacking)}


def _upto(plan: Plan) -> str:
    if not plan.steps:
        return "New cells cannot go through any of the steps wanted."
    return f"New cells can go up to {plan.steps[-1].name!r}, not through all steps wanted."


def _sentence(hole: Hole) -> str:
    said = f"Step {hole.step!r} reads {hole.reason('reference')}. {hole.cure('reference')}"
    if hole.gap is None:
        said += f" New cells that have such values may bring them in {hole.slot.written()}."
    return said


def _behind(plan: Plan, found: list[Hole]) -> str:
    """The steps that cannot run because another one cannot."""
    others = [name for name in plan.excluded if name not in {hole.step for hole in found}]
    return f" Without it {', '.join(map(repr, others))} cannot run either." if others else ""


def _instead(plan: Plan) -> str:
    return PARTIAL if plan.steps else ""
