"""Steps that objectives are the loss of: recorded ones, or new ones that they bring along."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple, cast

from dbx.losses.objectives import Objective, Sum
from dbx.losses.steps import Elbo
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.checks import check_known
from dbx.program.record.registry import Registry
from dbx.program.record.run import compute
from dbx.program.slots.slots import Slot


class Ready(NamedTuple):
    """What is known before the trained steps are chosen."""

    loss: Sum
    """With the names of steps."""
    steps: tuple[str, ...]
    """That are trained in every stage, because an objective is their loss."""
    values: dict[Slot, Any]
    """What new steps write; nothing of it is written yet."""


def bring(data, registry: Registry, loss: Sum, seed: int) -> Ready:
    """Fit and record in ``registry`` the steps that objectives bring along, and name those that are there.

    Raises
    ------
    ValueError
        An objective is of a recorded step, and there is none.
    """
    parts: list[Objective] = []
    steps: list[str] = []
    values: dict[Slot, Any] = {}
    for part in loss.parts:
        if part.operator is None:
            parts.append(part)
            continue
        name, new = _of_part(data, registry, cast(Elbo, part), seed)
        parts.append(replace(part, step=name))
        steps.append(name)
        values |= new
    return Ready(Sum(tuple(parts), loss.weights), tuple(dict.fromkeys(steps)), values)


def _of_part(data, registry: Registry, part: Elbo, seed: int) -> tuple[str, dict[Slot, Any]]:
    operator = CATALOGUE[cast(str, part.operator)]
    brought = part.brings
    if brought is None:
        own = [step.name for step in registry if step.operator == operator.name]
        if part.step is None and not own:
            msg = (
                f"{type(part).__name__}() is of a recorded step {operator.name!r}, and there is none: run it first, or "
                "pass n_states and inputs for a new one."
            )
            raise ValueError(msg)
        return (own[-1] if part.step is None else registry[part.step].name), {}
    for name in brought.inputs:
        check_known(name, tuple(operator.inputs), "inputs")
    name = part.step or operator.name
    model = operator(**brought.settings)
    result = compute(data, registry, model, reads=brought.inputs, writes=brought.writes, name=name, seed=seed)
    return registry.record(result.step).name, result.values
