"""What training held fixed, fitted again on the trained coordinates: neighbours, spectra, pseudotimes, fates."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

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
from dbx.program.training.objective import PipelineLoss, judge
from dbx.program.training.split import Split
from dbx.program.training.trainable import Moved, Trainable

FRACTIONS = (1.0, 0.5, 0.25)
"""Of the way that the parameters were trained: with other neighbours a part of it may be better than all."""


class Settled(NamedTuple):
    """Operators after a stage, and the held-out cells by them."""

    moved: dict[str, Operator]
    """Step -> its operator as trained."""
    refitted: dict[str, Operator]
    """Step -> its operator, for those that were fitted again."""
    judged: dict[str, np.ndarray]
    """As :func:`dbx.program.training.objective.judge` returns it."""


def settled(
    chain: Chain,
    dataset: Dataset,
    model: Trainable,
    loss: PipelineLoss,
    operators: Mapping[str, Operator],
    split: Split,
) -> Settled:
    """The trained parameters, or a fraction of their way, with neighbours and all that follows fitted again.

    The fraction is the one by which the held-out cells are best.
    """
    way, found = jax.tree.map(np.array, nnx.state(model, Moved)), []
    structure = jax.tree.structure(loss.pipeline.states)
    for fraction in FRACTIONS:
        nnx.update(model, jax.tree.map(partial(jnp.multiply, fraction), way))
        moved = {step: with_parameters(operators[step], named) for step, named in model.parameters().items()}
        refitted = refitted_after(chain, {**operators, **moved})
        pipeline = Pipeline(chain.pipeline.registry, chain.pipeline.plan, {**operators, **refitted})
        # in the structure of the states before, for which it is compiled: a stored graph has other static facts
        states = jax.tree.unflatten(structure, jax.tree.leaves(pipeline.states))
        values = judge(model, loss, dataset.columns, split.judging, states)
        moved |= {name: refitted.pop(name) for name in moved if name in refitted}
        found.append(Settled(moved, refitted, values))
    return min(found, key=lambda one: float(np.nan_to_num(one.judged["loss"].mean(), nan=np.inf)))


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
