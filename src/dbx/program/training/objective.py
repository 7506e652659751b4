"""An objective after a pipeline, for :func:`dbx.ops.nn.training.train` and for judging by held-out cells."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import plan_whole
from dbx.losses import VelocityConsistency
from dbx.losses.objectives import Cells, Objective
from dbx.ops.values import Codes
from dbx.program.pipeline.blocks import first_rows
from dbx.program.pipeline.pipeline import Pipeline
from dbx.program.slots.slots import Slot
from dbx.program.training.trainable import Trainable

DROPOUT = 0.3
"""Fraction of the input values of a chain that are dropped in each minibatch."""
BLOCK = 4096
MASKS = 2**31 - 1
"""Stream of the key of a minibatch for hidden values."""


@dataclass(frozen=True)
class Part:
    """One objective of a sum, and where its values are."""

    name: str
    objective: Objective
    slot: str
    """What is judged."""
    reads: Mapping[str, str]
    """Name of what the objective reads -> slot that the pipeline has, or name of a column of the minibatch."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    step: str = ""
    """The step whose own objective or gates it is about."""
    masks: str = ""
    """Slot that the chain starts from, some values of which are hidden; empty where none are."""
    mask_rate: float = 0.0
    """Fraction of its values that are hidden."""
    labelled: float = 1.0
    """Fraction of the cells that have a label; the others are 0, and must not dilute the mean in training."""


class Run(NamedTuple):
    """The pipeline on a minibatch."""

    batch: dict[str, jax.Array]
    """Its columns, with those of the cells that are there besides."""
    rows: Any
    """Row of each of these cells, None where there are no others."""
    whole: dict[str, Any]
    """Slot -> what the pipeline starts from."""
    shown: dict[str, Any]
    """The same with the values that are not dropped."""
    parameters: dict[str, dict[str, Any]]
    trace: Callable[[dict[str, Any]], tuple[dict[str, Any], Mapping[str, Any]]]
    """The pipeline of values to start from."""
    latest: dict[str, Any]
    """Slot -> value after the last step."""
    runs: Mapping[str, Any]
    """Step -> how it ran."""
    of_batch: Callable[[Any], Any]
    """The cells of the minibatch among all that are there."""


class PipelineLoss:
    """The objective of each cell after the pipeline; see :class:`dbx.ops.nn.training.Loss`."""

    def __init__(
        self,
        pipeline: Pipeline,
        levels: Mapping[str, tuple[str, ...] | None],
        parts: tuple[Part, ...],
        weights: tuple[float, ...],
        dropout: float,
        sequences: np.ndarray | None = None,
    ):
        """``levels`` has every slot that the pipeline starts from: levels of a column, None for numbers.

        ``sequences`` is the number of the sequence of each row, where rows are passed in whole sequences.
        """
        self.sequences = sequences
        self.pipeline, self.levels, self.parts, self.weights = pipeline, levels, parts, weights
        self.dropout = dropout

    def __call__(
        self, model: Trainable, batch: dict[str, jax.Array], key, *, anchor, epoch: Any = math.inf, states: Any = None
    ):
        """The weighted sum of the objectives, and each of them.

        ``epoch`` is the number of epochs done; without a key, where cells are judged, training is over. ``states`` of
        the pipeline's operators replace those that they have.
        """
        run = self._run(model, batch, key, states)
        whole, latest, runs, of_batch, batch = run.whole, run.latest, run.runs, run.of_batch, run.batch
        values = of_batch({slot: codes(x) for slot, x in {**latest, **whole}.items()})
        values |= first_rows(batch, len(batch["row"]))
        found, followed = [], {}
        for part in self.parts:
            head: Any = model.heads.get(part.name)
            judged, hidden = latest, None
            if part.masks:
                ids = batch["row"] if run.rows is None else run.rows
                x: Any = whole[part.masks]
                hidden = hidden_entries(ids, x.shape[1], part.mask_rate, key)
                judged, _ = run.trace({**whole, part.masks: jnp.where(hidden, part.facts["centre"], x)})
                hidden = of_batch({"hidden": hidden})["hidden"]
            cells = Cells(
                z=of_batch(judged[part.slot]),
                read={name: values[place] for name, place in part.reads.items()},
                rows=batch["row"],
                head=head,
                facts=part.facts,
                run=partial(_of_step, runs, part.step),
                hidden=hidden,
                epoch=math.inf if key is None else epoch,
                velocity=self._pushed(part, run.parameters, run.shown, values),
            )
            values_of_cells = part.objective.of_cells(cells)
            found.append(values_of_cells if key is None else values_of_cells / part.labelled)
            followed[part.name] = found[-1]
            if part.objective.labelled:
                label = cells.read["label"]
                followed[f"{part.name}_errors"] = 1.0 * ((head(cells.z).argmax(axis=1) != label) & (label >= 0))
        total = sum(weight * x for weight, x in zip(self.weights, found, strict=True))
        penalty = 0 if key is None else anchor * model.distance()
        return total + penalty, followed

    def depicted(self, model: Trainable, batch: dict[str, jax.Array], step: str):
        """Of the cells of a minibatch, what the layout of a step is a picture of, and the layout."""
        run = self._run(model, batch, None, None)
        operator, inputs, outputs = run.runs[step]
        return run.of_batch(operator.depicted(inputs, outputs))

    def _run(self, model: Trainable, batch: dict[str, jax.Array], key, states: Any) -> Run:
        """The pipeline on a minibatch, with the cells that it needs besides."""
        pipeline = self.pipeline if states is None else self.pipeline.with_states(states)
        rows, block, together = None, None, bool(model.whole) and "neighbours" not in model.whole
        if together:
            rows, batch = _all_cells(model, batch)
        elif model.whole:
            rows, block, batch = _with_neighbours(model, batch)
        whole = {
            slot: batch[f"root{i}"] if levels is None else Codes(batch[f"root{i}"], levels)
            for i, (slot, levels) in enumerate(self.levels.items())
        }
        shown = whole if key is None else self._hidden(model, whole, key)
        parameters = model.parameters() if key is None else model.jittered(self.pipeline.operators, key)
        trace = partial(pipeline.trace, parameters, rows=rows, block=block, together=together)
        latest, runs = trace(shown)
        of_batch = partial(_rows, batch["cell"]) if together else partial(first_rows, n_cells=len(batch["row"]))
        return Run(batch, rows, whole, shown, parameters, trace, latest, runs, of_batch)

    def _hidden(self, model: Trainable, whole, key) -> dict[str, Any]:
        """What the pipeline starts from with some of the values dropped."""
        shown = dict(whole)
        for i, slot in enumerate(whole):
            if f"root{i}" in model.centre:
                centre = model.centre[f"root{i}"][...]
                shown[slot] = dropped(whole[slot], centre, self.dropout, jax.random.fold_in(key, i))
        return shown

    def _pushed(self, part: Part, parameters, shown, values):
        """Velocities of genes pushed through the pipeline; None where there are none."""
        if (
            not isinstance(part.objective, VelocityConsistency)
            or not Slot.parse(part.objective.velocity).is_gene_matrix
        ):
            return None
        (root,) = [slot for slot in shown if Slot.parse(slot).is_gene_matrix]
        velocity = values[part.reads["velocity"]]
        return jax.jvp(lambda x: self.pipeline(parameters, {**shown, root: x})[part.slot], (shown[root],), (velocity,))[
            1
        ]


def _with_neighbours(model: Trainable, batch: dict[str, jax.Array]):
    """(rows of the cells of a minibatch and then of their neighbours, how many are its own, columns of all of them).

    Of data that one block holds all cells are there: what edges have from their other end is then exact.
    """
    own, neighbours = batch["cell"], model.whole["neighbours"][...]
    others = jnp.arange(len(neighbours)) if len(neighbours) <= BLOCK else neighbours[own].ravel()
    rows = jnp.concatenate([own, others.astype(own.dtype)])
    columns = {name: x[...][rows] for name, x in model.whole.items() if name != "neighbours"}
    return rows, len(own), {**batch, **columns}


def _all_cells(model: Trainable, batch: dict[str, jax.Array]):
    """(rows of all cells, columns of the minibatch and, of what the chain starts from, of all cells)."""
    columns = {name: x.get_value() for name, x in model.whole.items()}
    n_cells = len(next(iter(columns.values())))
    return jnp.arange(n_cells, dtype=jnp.int32), {**batch, **columns}


def _rows(rows, value: Any) -> Any:
    """Some cells of an array, codes or a graph."""
    return jax.tree.map(lambda leaf: leaf[rows], value)


def _of_step(runs: Mapping[str, Any], default: str, name: str | None) -> Any:
    return runs[name or default]


def codes(value: Any) -> Any:
    """A categorical column as its codes."""
    return value.codes if isinstance(value, Codes) else value


def dropped(x, centre, share: float, key):
    """Values set to the centre of their column at random, the rest moved away from it: the expectation stays."""
    kept = jax.random.bernoulli(key, 1 - share, x.shape)
    return jnp.where(kept, centre + (x - centre) / (1 - share), centre)


def hidden_entries(ids, n_columns: int, rate: float, key):
    """Which values are hidden, array of shape (n_cells, n_columns), bool; without a key always the same of a cell."""
    if key is not None:
        return jax.random.bernoulli(jax.random.fold_in(key, MASKS), rate, (len(ids), n_columns))
    keys = jax.vmap(partial(jax.random.fold_in, jax.random.key(0)))(ids)
    return jax.vmap(lambda key: jax.random.bernoulli(key, rate, (n_columns,)))(keys)


def judge(
    model: Trainable, judged: PipelineLoss, columns: Mapping[str, Any], rows: np.ndarray, states: Any = None
) -> dict[str, np.ndarray]:
    """The objective of each of these rows (``loss``), its parts, and misclassifications.

    ``states`` are those of the operators, where they are others than the pipeline's.

    Where cells are judged by each other, or have edges from each other, as many of the other cells as fit into a block
    are present, too.
    """
    graphdef, state = nnx.split(model)
    if judged.sequences is not None:
        values = _in_sequences(judged, graphdef, state, states, columns, rows)
        return {"loss": _weighted(judged, values), **values}
    together = bool(model.whole) or any(part.objective.of_sets for part in judged.parts)
    others = context(len(columns["row"]), rows) if together else rows[:0]
    found, size = [], BLOCK - len(others)
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        there = np.concatenate([part, others])
        batch = {name: x.dense(there) if isinstance(x, RowBlocks) else x[there] for name, x in columns.items()}
        values = _values(judged, graphdef, state, states, batch)
        found.append({name: np.asarray(x, np.float64)[: len(part)] for name, x in values.items()})
    values = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
    return {"loss": _weighted(judged, values), **values}


def _weighted(judged: PipelineLoss, values: Mapping[str, np.ndarray]) -> Any:
    """Summed on the host: what is compiled for the parts serves before the weights are known and after."""
    return sum(weight * values[part.name] for weight, part in zip(judged.weights, judged.parts, strict=True))


def _in_sequences(judged: PipelineLoss, graphdef, state, states, columns, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Values of rows, with all others of their sequences present."""
    sequences = cast(np.ndarray, judged.sequences)
    whole = np.flatnonzero(np.isin(sequences, sequences[rows]))
    plan = plan_whole(whole, sequences, BLOCK)
    found: dict[str, np.ndarray] = {}
    for there, weights in zip(plan.rows, plan.weights, strict=True):
        batch = {name: x.dense(there) if isinstance(x, RowBlocks) else x[there] for name, x in columns.items()}
        own = weights > 0
        for name, x in _values(judged, graphdef, state, states, batch).items():
            found.setdefault(name, np.empty(len(sequences)))[there[own]] = np.asarray(x)[own]
    return {name: x[rows] for name, x in found.items()}


def context(n_cells: int, rows: np.ndarray) -> np.ndarray:
    """Other cells, evenly over all, for half a block at most."""
    others = np.setdiff1d(np.arange(n_cells), rows)
    return others[:: -(-len(others) // (BLOCK // 2)) or 1]


@partial(jax.jit, static_argnums=(0, 1))
def _values(judged: PipelineLoss, graphdef, state, states, batch):
    return judged(nnx.merge(graphdef, state), batch, None, anchor=0.0, states=states)[1]
