"""Train recorded steps through everything between them and an objective."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from flax import nnx

from dbx._version import __version__
from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.data.moments import moments
from dbx.losses.objectives import CrossEntropy
from dbx.ops.apply import apply, take
from dbx.ops.label_head import LabelHead, default_batch_size
from dbx.ops.labels import known_labels
from dbx.ops.operator import Operator
from dbx.ops.settings_checks import check_held_out
from dbx.ops.state import rebuild, state_arrays
from dbx.ops.training import Training
from dbx.ops.training import train as minimise
from dbx.ops.values import Codes
from dbx.program import log
from dbx.program.chain import Chain, make_chain
from dbx.program.freed import Freed, Judged, Moved
from dbx.program.gather import column_value
from dbx.program.location import Location
from dbx.program.plan import Version
from dbx.program.registry import Registry, load
from dbx.program.rerun import placed
from dbx.program.run import commit, prints, views
from dbx.program.slots import Slot, holder, read
from dbx.program.step import Read, Step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

DROPOUT = 0.3
"""Share of the values that a chain starts from that each minibatch is not shown."""
LEAST_ERRORS = 0.02
"""Share of held-out cells that must be told wrongly before: with fewer there is nothing to gain."""
BLOCK = 4096


def optimize(
    adata: AnnData | MuData,
    loss: CrossEntropy,
    *,
    train: Iterable[str] | str | None = None,
    validation: float = 0.15,
    split_key: str | None = None,
    unlabeled: str = "Unknown",
    anchor: float = 200.0,
    max_epochs: int = 200,
    patience: int = 15,
    batch_size: int | None = None,
    learning_rate: float = 1e-3,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Train recorded steps through everything between them and an objective; never worse than they were.

    Logistic regression first learns the labels from the coordinates as they are. Then the parameters of the named steps
    move, together with it, from where they were fitted: Adam on minibatches, with a penalty on how far they go and
    three tenths of the input values hidden at each step. Cells are held out all along; training stops when these are
    not told better, and what was learnt is kept only if their mean loss improved by more than one standard error of the
    difference, and more than 2% of them were told wrongly before. Otherwise the steps stay as they were. A label weighs
    as the inverse square root of its cells.

    Parameters
    ----------
    adata
        Annotated data with a program in ``uns["dbx"]``.
    loss
        What to improve: :class:`dbx.losses.CrossEntropy`.
    train
        Names of the steps whose parameters move; by default the last principal component analysis.
    validation
        Share of the labelled cells that is held out.
    split_key
        Column of ``obs`` whose groups (donors, batches) are held out as a whole.
    unlabeled
        What cells without a label are called, besides missing values: they take no part and get a prediction.
    anchor
        Penalty on the squared distance that parameters go, in units of their own; divided by the number of cells
        trained on, so that it fades with more.
    max_epochs, patience
        Most passes over the cells, and after how many that were not better for held-out cells to stop.
    batch_size
        Most cells in a minibatch; by default a sixteenth of the cells, from 32 to 128.
    learning_rate
        Step size of Adam; a projection moves by ten times this, relative to its loadings.
    random_state
        Seed of the split, the start of the network, and the minibatches.
    copy
        Work on a copy and return it.

    Returns
    -------
    None, or the copy with ``copy=True``. Where the steps were kept as trained, what they and the steps after them up to
    the judged slot write is written anew, and later steps are marked stale. Writes besides:

    ``obs["<label>_predicted"]``, ``obs["<label>_confidence"]``, ``obsm["<label>_probabilities"]``
        Predicted label, its probability, and those of all labels, array of shape (n_cells, n_labels).
    ``uns["optimize"]``
        ``kept``, ``gain`` and ``standard_error`` (nats per held-out cell), ``trained``, ``before`` (the parameters as
        they were) and ``history``: arrays of shape (n_epochs,).

    Raises
    ------
    ValueError
        There is no program; a step has nothing to train or does not work on each cell by itself; there are no labels,
        or but one.
    """
    check_held_out(validation, "validation")
    data = adata.copy() if copy else adata
    registry = load(data)
    names = _steps_to_train(registry, train)
    mod = registry[names[0]].mod
    n_cells = holder(data, Slot("obs", mod=mod)).n_obs
    chain = make_chain(registry, Location(data, registry, {}, own=True), n_cells, names, loss.slot)
    column = Slot("obs", (loss.label,), mod)
    labels = column_value(read(data, column), column, "optimize", LabelHead.inputs["labels"])
    known, classes = known_labels(labels, unlabeled)
    groups = None if split_key is None else np.asarray(read(data, Slot("obs", (split_key,), mod)))
    held_out = _held_out(np.flatnonzero(known >= 0), groups, validation, np.random.default_rng(random_state))
    n_trained = int((known >= 0).sum()) - len(held_out)
    how = Training(
        epochs=max_epochs,
        batch_size=default_batch_size(n_trained) if batch_size is None else batch_size,
        learning_rate=learning_rate,
        weight_decay=1e-4,
        patience=patience,
        schedules={"anchor": lambda now: np.full_like(now, anchor / n_trained)},
    )
    head = LabelHead(unlabeled=unlabeled, classes=classes)
    with log.timed("optimizing " + ", ".join(names)), log.progress("optimize") as show:
        outcome = _trained(chain, head, known, held_out, how, random_state, show)
    values = _recorded(data, registry, chain, outcome, labels, column, random_state)
    commit(data, registry, values)
    _say(outcome, names)
    return data if copy else None


@dataclass
class Outcome:
    """What training found."""

    kept: bool
    gain: float
    standard_error: float
    operators: Mapping[str, Operator]
    """Trained step -> its operator, as trained or as it was."""
    before: Mapping[str, Mapping[str, np.ndarray]]
    head: LabelHead
    history: Mapping[str, np.ndarray]


def _steps_to_train(registry: Registry, train) -> list[str]:
    if not len(registry):
        msg = "No program is recorded here (uns['dbx']): run dbx.pp and dbx.tl steps first, or dbx.adopt(adata)."
        raise ValueError(msg)
    if train is not None:
        return [train] if isinstance(train, str) else list(train)
    projections = [step.name for step in registry if step.operator == "pca"]
    if not projections:
        there = ", ".join(step.name for step in registry)
        msg = f"There is no principal component analysis to train among {there}: name the steps, train=[...]."
        raise ValueError(msg)
    return projections[-1:]


def _held_out(rows: np.ndarray, groups, share: float, rng: np.random.Generator) -> np.ndarray:
    """Labelled rows to hold out: at random, or whole groups until they are that share."""
    if groups is None:
        return np.sort(rng.permutation(rows)[: max(round(share * len(rows)), 1)])
    levels = rng.permutation(np.unique(groups[rows]))
    if len(levels) < 2:
        msg = f"split_key has one group only ({str(levels[0])!r}): there is nothing to hold out."
        raise ValueError(msg)
    sizes = np.cumsum([np.sum(groups[rows] == level) for level in levels])
    n_groups = min(int(np.searchsorted(sizes, share * len(rows))) + 1, len(levels) - 1)
    return rows[np.isin(groups[rows], levels[:n_groups])]


def _trained(chain: Chain, head: LabelHead, known, held_out, how: Training, seed: int, show) -> Outcome:
    operators = chain.pipeline.operators
    rows = np.flatnonzero(known >= 0)
    z = _coordinates(chain, operators)
    head.fit_rows(z, known, held_out, seed=seed, progress=show)
    before_head = state_arrays(head)
    roots = chain.roots()
    columns = {f"root{i}": take(x, rows) for i, x in enumerate(roots.values())}
    centres = {name: moments(x).mean[0] for name, x in columns.items() if isinstance(x, RowBlocks)}
    columns = {name: np.asarray(x.codes) if isinstance(x, Codes) else x for name, x in columns.items()}
    levels = {slot: x.levels if isinstance(x, Codes) else None for slot, x in roots.items()}
    trained = {step.name: operators[step.name] for step in chain.trained}
    model = Freed(chain.pipeline, trained, head.head, centres)
    judged = Judged(chain.pipeline, levels, chain.end.slot, DROPOUT)
    apart = np.flatnonzero(np.isin(rows, held_out))
    before, errors = _judged(model, judged, columns, known[rows], apart)
    history = minimise(
        model,
        judged,
        Minibatches({**columns, "label": known[rows]}),
        how,
        trainable=nnx.Any(nnx.Param, Moved),
        held_out=apart,
        seed=seed,
        progress=show,
    )
    better = before - _judged(model, judged, columns, known[rows], apart)[0]
    gain, error = float(better.mean()), float(better.std(ddof=1) / np.sqrt(len(better)))
    kept = gain > error and errors.mean() > LEAST_ERRORS
    parameters = {step: {n: np.asarray(x) for n, x in named.items()} for step, named in model.parameters().items()}
    if not kept:
        head = rebuild(LabelHead, head.config, before_head)
    return Outcome(
        kept=kept,
        gain=gain,
        standard_error=error,
        operators={name: _with(trained[name], parameters[name]) for name in trained} if kept else trained,
        before={
            step: {n: np.asarray(chain.pipeline.parameters[step][n]) for n in parameters[step]} for step in trained
        },
        head=head,
        history=history,
    )


def _coordinates(chain: Chain, operators: Mapping[str, Operator]) -> np.ndarray:
    rows = np.arange(chain.replay.n_cells, dtype=np.int32)
    for step in chain.steps:
        chain.replay.run(step, operators[step.name], rows)
    return np.asarray(chain.replay.env[chain.end].value)


def _judged(
    model: Freed, judged: Judged, columns, known: np.ndarray, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Loss of each of these rows, and whether it is told wrongly."""
    graphdef, state = nnx.split(model)
    found = []
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK]
        batch = {name: x.dense(part) if isinstance(x, RowBlocks) else x[part] for name, x in columns.items()}
        told = _told(judged, graphdef, state, {**batch, "label": known[part]})
        found.append([np.asarray(x, np.float64) for x in told])
    losses, errors = map(np.concatenate, zip(*found, strict=True))
    return losses, errors


@partial(jax.jit, static_argnums=(0, 1))
def _told(judged: Judged, graphdef, state, batch):
    losses, followed = judged(nnx.merge(graphdef, state), batch, None, anchor=0.0)
    return losses, followed["errors"]


def _with(operator: Operator, parameters: Mapping[str, np.ndarray]) -> Operator:
    arrays = state_arrays(operator)
    arrays |= {name: (arrays[name][0], value.astype(arrays[name][1].dtype)) for name, value in parameters.items()}
    return rebuild(type(operator), operator.config, arrays)


def _recorded(data, registry: Registry, chain: Chain, outcome: Outcome, labels: Codes, column: Slot, seed: int):
    """Record the chain as it is now, and the head; what is to be written."""
    values: dict[Slot, Any] = {}
    ids = {step.id: step.id for step in chain.steps}
    if outcome.kept:
        for step in chain.steps:
            values |= _run_again(data, registry, chain, step, outcome.operators.get(step.name), ids)
    end = Version(chain.end.slot, ids[chain.end.writer])
    values |= _head_step(data, registry, chain, outcome.head, end, labels, column, seed)
    values[Slot("uns", ("optimize",), column.mod)] = {
        "kept": outcome.kept,
        "gain": outcome.gain,
        "standard_error": outcome.standard_error,
        "trained": np.array(list(outcome.operators)),
        "before": {step: dict(named) for step, named in outcome.before.items()},
        "history": dict(outcome.history),
    }
    return values


def _run_again(data, registry: Registry, chain: Chain, step: Step, operator: Operator | None, ids: dict[int, int]):
    operator = step.build() if operator is None else operator
    number = registry.next_id()
    reads = {name: replace(r, source=ids.get(r.source, r.source)) for name, r in step.reads.items()}
    again = replace(step, id=number, reads=reads, arrays=state_arrays(operator))
    ids[step.id] = number
    chain.replay.registry = Registry([*registry, again])
    outputs = chain.replay.run(again, operator, np.arange(chain.replay.n_cells, dtype=np.int32))
    values, writes = placed(data, again, operator, {**outputs, **views(operator)}, own=True)
    again = replace(again, writes=writes, fingerprints={**step.fingerprints, **prints(data, {}, values)})
    registry.record(again)
    return values


def _head_step(data, registry, chain: Chain, head: LabelHead, read_: Version, labels: Codes, column: Slot, seed: int):
    z = RowBlocks(np.asarray(chain.replay.env[read_].value), dtype=np.float32)
    outputs = {**apply(head, {"z": z}, z.n_rows), **views(head)}
    label, mod = column.keys[-1], column.mod
    writes = {
        "labels": Slot("obs", (f"{label}_predicted",), mod),
        "confidence": Slot("obs", (f"{label}_confidence",), mod),
        "probabilities": Slot("obsm", (f"{label}_probabilities",), mod),
    }
    step = Step(
        name=head.name,
        id=registry.next_id(),
        operator=head.name,
        config=head.config,
        seed=seed,
        version=__version__,
        reads={
            "z": Read(slots=(read_.slot,), source=read_.writer),
            "labels": Read(slots=(str(column),), levels={label: labels.levels}),
        },
        writes={name: str(slot) for name, slot in writes.items()},
        n_cells=z.n_rows,
        arrays=state_arrays(head),
    )
    values, _ = placed(data, step, head, outputs, own=True)
    registry.record(replace(step, fingerprints=prints(data, {}, values)))
    return values


def _say(outcome: Outcome, names: list[str]) -> None:
    change = f"{outcome.gain:+.3f} +- {outcome.standard_error:.3f} nats per held-out cell"
    what = "kept as trained" if outcome.kept else "left as they were: not more than noise, or hardly an error before"
    log.hint(f"{', '.join(names)}: {change}, {what}")
