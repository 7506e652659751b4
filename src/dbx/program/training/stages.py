"""Train steps one after the other; each is kept only if held-out cells improve."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import jax
import numpy as np
from flax import nnx

from dbx.data.minibatches import Minibatches
from dbx.losses.objectives import Sum
from dbx.ops.nn.training import Loss, Training, train
from dbx.ops.operator import Operator, Progress
from dbx.program.pipeline.pipeline import Pipeline
from dbx.program.training.chain import Chain
from dbx.program.training.dataset import Dataset
from dbx.program.training.failures import check_start, explain
from dbx.program.training.layouts import MOST_LOST
from dbx.program.training.objective import DROPOUT, PipelineLoss, judge
from dbx.program.training.refitting import Settled, settled
from dbx.program.training.split import Split
from dbx.program.training.trainable import Moved, Trainable

LEAST_ERRORS = 0.02
"""Misclassification rate of held-out cells before training up to which there is nothing to gain."""


@dataclass
class Stage:
    """The result of training some steps, judged by the held-out cells."""

    steps: tuple[str, ...]
    kept: bool
    verdict: str
    """Whether it was kept and why, as a phrase."""
    gain: float
    standard_error: float
    before: Mapping[str, float]
    """Name of an objective -> its mean before."""
    after: Mapping[str, float]
    history: Mapping[str, np.ndarray]


@dataclass
class Outcome:
    """What training found."""

    stages: list[Stage] = field(default_factory=list)
    operators: dict[str, Operator] = field(default_factory=dict)
    """Kept step -> its operator as trained."""
    refitted: dict[str, Operator] = field(default_factory=dict)
    """Step after it that was fitted again, such as neighbours -> its operator."""
    weights: tuple[float, ...] = ()

    @property
    def kept(self) -> bool:
        """Whether any stage was kept."""
        return any(stage.kept for stage in self.stages)


def run_stages(
    chain: Chain,
    dataset: Dataset,
    loss: Sum,
    stages: Sequence[tuple[str, ...]],
    split: Split,
    how: Training,
    *,
    seed: int,
    progress: Progress,
) -> Outcome:
    """Train each stage's steps together with those kept before."""
    outcome, data = Outcome(), Minibatches(dataset.columns, groups=dataset.sequences)
    for stage in stages:
        operators = {**chain.pipeline.operators, **outcome.refitted, **outcome.operators}
        pipeline = Pipeline(chain.pipeline.registry, chain.pipeline.plan, operators)
        trained = {name: operators[name] for name in dict.fromkeys((*outcome.operators, *stage))}
        model = Trainable(pipeline, trained, dataset.heads, dataset.centres, dataset.whole)
        judged = PipelineLoss(
            pipeline, dataset.levels, dataset.parts, (1.0,) * len(dataset.parts), DROPOUT, dataset.sequences
        )
        states = pipeline.states if chain.together else None  # compiled once for these and for what is fitted again
        before = judge(model, judged, dataset.columns, split.judging, states)
        check_start(before, dataset.parts, dataset.columns)
        if not outcome.stages:
            outcome.weights = _weights(loss, dataset, before)
        judged.weights = outcome.weights
        kept_heads = jax.tree.map(np.array, nnx.state(model.heads))
        try:
            history = train(
                model,
                cast(Loss, judged),
                data,
                how,
                trainable=nnx.Any(nnx.Param, Moved),
                held_out=split.hidden,
                judge=_judge(judged, dataset, split, loss, states),
                seed=seed,
                progress=progress,
            )
            history.pop("kept", None)  # whether the stage is kept is judged below
        except FloatingPointError as error:
            explain(error, model, judged, dataset.columns, np.setdiff1d(np.arange(len(dataset.rows)), split.hidden))
            raise
        found = settled(chain, dataset, model, judged, operators, split)
        result = _verdict(stage, dataset, outcome.weights, before, found, history)
        outcome.stages.append(result)
        if result.kept:
            outcome.operators, outcome.refitted = found.moved, found.refitted
        else:
            nnx.update(model.heads, kept_heads)
    return outcome


def _judge(judged: PipelineLoss, dataset: Dataset, split: Split, loss: Sum, states) -> Callable[[Any], float] | None:
    """Mean loss of the judging cells, among all others where these matter; None where their minibatches will do."""
    together = bool(dataset.whole) or dataset.sequences is not None or any(part.of_sets for part in loss.parts)
    if len(split.hidden) == len(split.judging) and not together:
        return None
    return lambda model: float(judge(model, judged, dataset.columns, split.judging, states)["loss"].mean())


def _weights(loss: Sum, dataset: Dataset, before: Mapping[str, np.ndarray]) -> tuple[float, ...]:
    """Those given; otherwise the inverse of each objective's size over the cells before training."""
    if not loss.balanced:
        return tuple(1.0 if weight is None else float(weight) for weight in loss.weights)
    sizes = {part.name: float(np.sqrt(np.mean(before[part.name] ** 2))) for part in dataset.parts}
    nothing = [name for name, size in sizes.items() if size < 1e-6]
    if nothing:
        msg = f"{nothing[0]} is 0 already, and a sum cannot be balanced by that: give weights, a + 0.1 * b."
        raise ValueError(msg)
    return tuple(1 / size for size in sizes.values())


def _verdict(stage, dataset: Dataset, weights, before, found: Settled, history) -> Stage:
    """Kept if held-out cells improved by more than a standard error, and there was something to improve.

    Layouts must go on depicting these cells.
    """
    after = found.judged
    names = [part.name for part in dataset.parts]
    better = sum(w * (before[name] - after[name]) for w, name in zip(weights, names, strict=True))
    gain, error = float(better.mean()), float(better.std(ddof=1) / np.sqrt(len(better)))
    errors = [before[f"{name}_errors"].mean() for name in names if name in dataset.labels]
    hardly_wrong = len(errors) == len(names) and max(errors) <= LEAST_ERRORS
    was, now = ({name: float(values[name].mean()) for name in names} for values in (before, after))
    kept = gain > error and not hardly_wrong and found.faithful
    if kept:
        verdict = "kept as trained"
        if found.fraction < 1 and found.lost:
            verdict = f"kept with {found.fraction:g} of the change: more would falsify the layout"
    elif not found.faithful:
        verdict = f"reverted: the layout would lose more than {MOST_LOST} of the trustworthiness of held-out cells"
    elif hardly_wrong and gain > error:
        verdict = f"reverted: at most {LEAST_ERRORS:.0%} of held-out cells were misclassified before training"
    else:
        verdict = "reverted: the gain is at most one standard error"
    return Stage(stage, kept, verdict, gain, error, was, now, history)
