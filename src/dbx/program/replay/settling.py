"""What is refused, and what is said, before a planned rerun computes anything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.checks import listed
from dbx.program import log
from dbx.program.record.registry import Registry, load, same_state
from dbx.program.record.step import Step
from dbx.program.replay.cut import without_metrics
from dbx.program.replay.holes import check_whole, left_out, warn_of_own_values
from dbx.program.replay.plan import Plan, excluded_text
from dbx.program.replay.start import without_held
from dbx.program.replay.unmapped import say_what_is_not_mapped
from dbx.program.slots.slots import exists

if TYPE_CHECKING:
    from dbx.program.replay.running import Run


def settle(run: Run, plan: Plan, data, *, named: bool, partial: bool) -> str | None:
    """Leave out what the cells already hold, refuse what cannot be, and warn; what is left out of a partial run.

    ``named`` is whether the user named steps.
    """
    registry, begin, available = run.registry, run.begin, run.location.available
    if begin is not None:
        without_held(plan, registry, run.location, begin)
    if not named:
        without_metrics(registry, plan, own=run.own)
    without = left_out(registry, plan, available) if partial else None
    own_cells = run.own or (begin is not None and begin.own_cells is not None)
    if not partial and not own_cells:
        check_whole(registry, plan, available)
    if not partial and not run.own:
        _check_nothing_is_missing(plan, data)
    if not partial and own_cells:
        _say_what_is_left_out(registry, plan, named=named)
    if begin is not None:
        warn_of_own_values(registry, begin.brought(plan.roots), run.location.inputs)
    if not run.own and not named:
        say_what_is_not_mapped(registry)
    if run.refit == "continue":
        _warn_of_new_starts(plan)
    if run.refit is not True:  # which asks for nothing else
        _warn_of_lost_training([step for step in plan.steps if run.fits(step)], continues=bool(run.refit))
    return without


def _check_nothing_is_missing(plan: Plan, data) -> None:
    """New cells must have everything that the wanted steps start from."""
    if plan.missing:
        lacking = "; ".join(
            f"{slot.written()}{' as it was before any step' if exists(data, slot) else ''}, for {name!r}"
            for slot, name in plan.missing.items()
        )
        slot = next(iter(plan.missing))
        msg = (
            f"The new cells lack what the program starts from: {lacking}. Add it, name where it is "
            f'(inputs={{"{slot}": "..."}}), or choose steps that do without (steps=[...]).'
        )
        raise ValueError(msg)


def warn_of_own_program(data, registry: Registry) -> None:
    """Name steps of a program that the new cells had and lose."""
    lost = [step.name for step in load(data) if not step.mapped and not _is_step_of(registry, step)]
    if lost:
        log.warn(f"The mapped program replaces the one that the new cells had ({', '.join(lost)}).")


def _is_step_of(registry: Registry, step: Step) -> bool:
    """Whether a program has this very step, as a part of the reference brings it along."""
    known = registry.by_id(step.id)
    return known is not None and known.facts() == step.facts() and same_state(known, step)


def _warn_of_new_starts(plan: Plan) -> None:
    operators = {step.name: step.operator_class for step in plan.steps}
    anew = [name for name, operator in operators.items() if "history" in operator.outputs and not operator.resumes]
    if anew:
        log.warn(f"Steps that cannot go on from their parameters will start again: {', '.join(anew)}.")


def _warn_of_lost_training(fitted_again: list[Step], *, continues: bool) -> None:
    """Name the steps whose parameters from ``dbx.optimize`` are replaced by those of another fit."""
    lost = [s.name for s in fitted_again if s.trained and not (continues and s.operator_class.resumes)]
    if lost:
        log.warn(
            f"Steps that dbx.optimize trained are fitted again, and their trained parameters are lost: {listed(lost)}. "
            "To keep them, work on a copy (copy=True); to have them again, run dbx.optimize after this."
        )


def _say_what_is_left_out(registry: Registry, plan: Plan, *, named: bool) -> None:
    if plan.excluded and (named or not plan.steps):
        raise ValueError(excluded_text(plan.excluded))
    if plan.excluded:
        starts = ", ".join(
            f"{version.slot} as {step.name!r} wrote it"
            for version in plan.roots
            for step in registry
            if step.id == version.writer
        )
        log.warn(excluded_text(plan.excluded) + (f" Starting from {starts}." if starts else ""))
