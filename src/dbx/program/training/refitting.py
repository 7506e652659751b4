"""What training held fixed, fitted again on the trained coordinates: neighbours, spectra, pseudotimes, fates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.operator import Operator
from dbx.program.pipeline.pipeline import Pipeline
from dbx.program.replay.recompute import with_parameters
from dbx.program.replay.replay import Replay
from dbx.program.training.chain import Chain
from dbx.program.training.dataset import Dataset
from dbx.program.training.layouts import MOST_LOST, depicting, mean_and_error, neighbourhoods_shown
from dbx.program.training.objective import PipelineLoss, judge
from dbx.program.training.split import Split
from dbx.program.training.trainable import Moved, Trainable

FRACTIONS = (1.0, 0.5, 0.25)
"""Of the way that the parameters were trained: with other neighbours a part of it may be better than all."""


NEARER = (0.125, 0.0625)
"""Further fractions, where a layout must go on depicting its cells."""


class Settled(NamedTuple):
    """Operators after a stage, and the held-out cells by them."""

    moved: dict[str, Operator]
    """Step -> its operator as trained."""
    refitted: dict[str, Operator]
    """Step -> its operator, for those that were fitted again."""
    judged: dict[str, np.ndarray]
    """As :func:`dbx.program.training.objective.judge` returns it."""
    fraction: float
    """Of the way that the parameters were trained."""
    lost: dict[str, float]
    """Step -> trustworthiness that its layout loses, a standard error included."""

    @property
    def faithful(self) -> bool:
        """Whether no layout loses too much."""
        return all(lost <= MOST_LOST for lost in self.lost.values())


def settled(
    chain: Chain,
    dataset: Dataset,
    model: Trainable,
    loss: PipelineLoss,
    operators: Mapping[str, Operator],
    split: Split,
) -> Settled:
    """The trained parameters, or a fraction of their way, with neighbours and all that follows fitted again.

    The fraction is the one by which the held-out cells are best among those with which layouts still depict them.
    """
    way, layouts = jax.tree.map(np.array, nnx.state(model, Moved)), depicting(chain, dataset)
    fractions = (FRACTIONS if chain.together or layouts else FRACTIONS[:1]) + (NEARER if layouts else ())
    go = partial(_go, model, way)
    go(0.0)
    before = {step: neighbourhoods_shown(model, loss, dataset, split.judging, step) for step in layouts}
    found = []
    for fraction in fractions:
        go(fraction)
        moved = {step: with_parameters(operators[step], named) for step, named in model.parameters().items()}
        refitted, states = _refitted(chain, loss, {**operators, **moved}) if chain.together else ({}, None)
        values = judge(model, loss, dataset.columns, split.judging, states)
        lost = {
            step: mean_and_error(before[step] - neighbourhoods_shown(model, loss, dataset, split.judging, step))
            for step in layouts
        }
        moved |= {name: refitted.pop(name) for name in moved if name in refitted}
        found.append(Settled(moved, refitted, values, fraction, lost))
    faithful = [one for one in found if one.faithful] or found[-1:]
    return min(faithful, key=lambda one: float(np.nan_to_num(one.judged["loss"].mean(), nan=np.inf)))


def _go(model: Trainable, way, fraction: float) -> None:
    nnx.update(model, jax.tree.map(partial(jnp.multiply, fraction), way))


def _refitted(chain: Chain, loss: PipelineLoss, operators: Mapping[str, Operator]) -> tuple[dict[str, Operator], Any]:
    """Step -> its operator fitted again, and the states of all in the structure for which ``loss`` is compiled."""
    refitted = refitted_after(chain, operators)
    pipeline = Pipeline(chain.pipeline.registry, chain.pipeline.plan, {**operators, **refitted})
    # a stored graph has other static facts than those before
    return refitted, jax.tree.unflatten(jax.tree.structure(loss.pipeline.states), jax.tree.leaves(pipeline.states))


def refitted_after(chain: Chain, operators: Mapping[str, Operator]) -> dict[str, Operator]:
    """Step -> its operator, for the steps of a chain that work on a graph or on all cells.

    Those with parameters keep them: what they store of the fitted cells follows.
    """
    replay = Replay(chain.replay.registry, chain.replay.n_cells, env=dict(chain.replay.env))
    rows, found = np.arange(chain.replay.n_cells, dtype=np.int32), {}
    for step in chain.steps:
        if step.operator_class.blockwise or step.operator_class.of_all_cells:
            operator = operators[step.name]
            goes_on = with_parameters(operator, {}) if operator.resumes else None
            found[step.name] = replay.refit(step, goes_on)[0]
        else:
            replay.run(step, operators[step.name], rows)
    return found
