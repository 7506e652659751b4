"""Train recorded steps through everything between them and an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from dbx.losses.objectives import Objective, Sum, as_sum
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.checks import check_above_zero, check_at_least, check_held_out
from dbx.ops.nn.epochs import default_batch_size
from dbx.ops.nn.training import Training
from dbx.ops.operator import Input
from dbx.ops.precision import full_precision
from dbx.ops.values import Codes
from dbx.program import log
from dbx.program.compat import own_copy
from dbx.program.record.commit import commit
from dbx.program.record.registry import Registry, load, load_program
from dbx.program.record.step import Step
from dbx.program.replay.location import Location
from dbx.program.slots.addresses import check_key
from dbx.program.slots.columns import column_value
from dbx.program.slots.slots import Slot, holder, read
from dbx.program.training.brought import bring
from dbx.program.training.chain import make_chain
from dbx.program.training.dataset import make_dataset
from dbx.program.training.heads import coordinates, start_heads
from dbx.program.training.results import recorded
from dbx.program.training.split import make_split, whole_groups
from dbx.program.training.stages import Outcome, run_stages
from dbx.settings import Verbosity

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

SET_SIZE = (64, 256)
"""Fewest and most cells of a minibatch where cells are judged by each other; a quarter of them in between."""


def optimize(
    adata: AnnData | MuData,
    loss: Objective | Callable,
    *,
    train: Iterable[str | tuple[str, ...]] | str | None = None,
    steps: Iterable[str] | None = None,
    validation: float = 0.15,
    split_key: str | None = None,
    subset: str | None = None,
    unlabeled: str | float | bool | None = "Unknown",
    anchor: float = 200.0,
    max_epochs: int = 200,
    patience: int = 15,
    batch_size: int | None = None,
    learning_rate: float = 1e-3,
    key_added: str | None = None,
    inputs: Mapping[str, str] | None = None,
    random_state: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Train recorded steps through everything between them and an objective; kept only where held-out cells gain.

    What judges the coordinates (logistic regression for ``CrossEntropy``) is first trained on them as they are. Then
    the parameters of the steps move, together with it, from where they were fitted: Adam on minibatches, with a penalty
    on how far they go and three tenths of the input values dropped at each step (none with an objective
    that reconstructs them, such as ``Elbo``). A share of the cells is held out throughout; training stops when these
    do not improve. Steps are trained one after the other, each together with those before it, and a step is kept as
    trained only if the mean loss of the held-out cells fell by more than one standard error of the difference and, with
    ``CrossEntropy`` alone, more than 2% of them were misclassified before. Otherwise it is reverted. The same held-out
    cells decide when to stop and what to keep: where there is nothing to gain, about a quarter of all runs are kept all
    the same, with changes of a few percent that help as little as they harm.

    A layout (parametric UMAP) trained by ``Compactness`` moves only a fraction of the way (1, 1/2, ..., 1/16), the best
    with which the trustworthiness of held-out cells falls by at most .01, a standard error included; without any it is
    reverted. Other objectives are about what they judge, and may change what a layout shows.

    Through MAGIC, diffusion components, pseudotime and fate probabilities, which depend on all cells, all of them pass
    at once (up to 10,000), and no values are dropped. Neighbours are held fixed while a step is trained; then they and
    all that follows are fitted again, and judged and written so. The next step starts from these.

    Through a hidden Markov model minibatches are whole sequences, and whole sequences are held out.

    Parameters
    ----------
    adata
        Annotated data with a program in ``uns["dbx"]``.
    loss
        What to improve: one of ``dbx.losses``, a sum of them, or a function that takes the judged slot (an array of
        shape (n_cells, n_dims)) and returns an array of shape (n_cells,). A sum without weights is balanced: each part
        is divided by its size before (root mean square over held-out cells). ``a + 0.1 * b`` is used without balancing.
    train
        Names of the steps whose parameters move, in the order in which they are trained; a tuple of names within the
        list is trained at once. By default the last projection (PCA, VAE) before the judged slot, then the gene gate
        before it, if there is one; not the normalisation, which has hardly anything to gain: name it last.
    steps
        Names of the steps to train through, all by default. The input of the first is used as stored; the last one
        writes what is judged where ``loss`` names no slot.
    validation
        Share of the cells that is held out (of the labelled ones, where there are labels).
    split_key
        Column of ``obs`` whose groups (donors, batches) are held out as a whole, as many as come nearest to that share.
    subset
        Boolean column of ``obs``: only these cells take part. The others, a test split, are neither trained on nor held
        out to judge by; results are computed for them, too.
    unlabeled
        What cells without a label (or batch, or group) are called, besides missing values. With ``CrossEntropy`` alone
        they take no part; they get a prediction.
    anchor
        Penalty on the squared distance that parameters move, in units of their own; divided by the number of cells
        trained on, so that it fades with more cells.
    max_epochs, patience
        Maximum number of passes over the cells, and after how many without improvement on held-out cells to stop.
    batch_size
        Maximum minibatch size; by default a sixteenth of the cells, from 32 to 128; a quarter, from 64 to 256,
        where the loss judges cells by each other; all where a step depends on all cells.
    learning_rate
        Step size of Adam; a projection moves by ten times this, relative to its loadings.
    key_added
        Write what the trained steps give to new slots with this at their end (``obsm["X_pca_<key_added>"]``), recorded
        as steps of their own, and leave the steps as they are. Where nothing was kept the new slots hold what the old
        ones do.
    inputs
        Where something that the program starts from is now, such as ``{"X": "layers/counts"}``.
    random_state
        Seed of the split, the start of the heads, and the minibatches.
    copy
        Work on a copy and return it.

    Returns
    -------
    None, or the copy with ``copy=True``. Where steps were kept as trained, what they and the steps after them up to
    the judged slots write is computed again, and later steps are marked stale. Also writes:

    ``obs["<label>_predicted"]``, ``obs["<label>_confidence"]``, ``obsm["<label>_probabilities"]``
        With ``CrossEntropy``: predicted label, its probability, and those of all labels, array of shape (n_cells,
        n_labels).
    ``uns["optimize"]``
        Of the last run: ``trained`` and ``kept`` (a name and a flag for each stage), ``gain`` and ``standard_error``
        (of the loss, per held-out cell), ``losses`` (each part before and after, and its weight), ``before`` (the
        parameters as they were), ``held_out`` (names of the cells that judged), ``key_added``, ``history`` (arrays of
        shape (n_epochs,)).

    Raises
    ------
    ValueError
        There is no program; a step has nothing to train or does not work on each cell by itself; there are no labels,
        only one, or one for each cell; the loss or its gradient is not finite before training.
    KeyError
        A step or a slot is not there.
    TypeError
        ``loss`` is neither an objective nor a function.
    """
    check_key(key_added)
    _check(loss, validation, anchor, max_epochs, patience, batch_size, learning_rate)
    data, loss = own_copy(adata, copy=copy), as_sum(loss)
    words = loss.words
    new = any(part.brings is not None for part in loss.parts)
    registry = load(data) if new else load_program(data)
    loss, models, values = bring(data, registry, loss, random_state)
    slots, steps = [part.slot for part in loss.parts], [steps] if isinstance(steps, str) else steps
    steps = None if steps is None else [*steps, *models]
    stages = [_with(stage, models) for stage in _stages(registry, train, slots, steps, models)]
    names = [name for stage in stages for name in stage]
    mod = registry[names[0]].mod
    n_cells = holder(data, Slot("obs", mod=mod)).n_obs
    location = Location(data, registry, dict(inputs or {}), own=True)
    chain = make_chain(registry, location, n_cells, names, slots, steps)
    location.check_inputs()
    dataset = make_dataset(data, chain, loss, unlabeled, _mask(data, subset, mod))
    groups = whole_groups(dataset, _groups(data, split_key, mod, dataset.rows))
    split = make_split(dataset, groups, validation, np.random.default_rng(random_state))
    n_trained = len(dataset.rows) - len(split.hidden)
    if batch_size is None and chain.together:
        batch_size = n_trained
    how = _training(loss, n_trained, max_epochs, patience, batch_size, learning_rate, anchor)
    with full_precision(), log.timed("optimizing " + ", ".join(names)), log.progress("optimize") as show:
        coordinates(chain)
        start_heads(chain, dataset, split.hidden, random_state, show)
        outcome = run_stages(chain, dataset, loss, stages, split, how, seed=random_state, progress=show)
    how_so = {"loss": words, "seed": random_state, "cells": n_trained}
    values |= recorded(data, registry, chain, dataset, outcome, split, key_added, how_so)
    commit(data, registry, values)
    _say(outcome)
    return data if copy else None


def _check(loss, validation, anchor, max_epochs, patience, batch_size, learning_rate) -> None:
    """Refuse impossible settings before anything is read."""
    if not isinstance(loss, Objective) and not callable(loss):
        msg = f'loss must be an objective such as dbx.losses.CrossEntropy("cell_type"), or a function; got {loss!r}.'
        raise TypeError(msg)
    check_held_out(validation, "validation")
    check_above_zero(validation, "validation")
    check_above_zero(learning_rate, "learning_rate")
    check_at_least(anchor, 0, "anchor")
    for name, value in (("max_epochs", max_epochs), ("patience", patience), ("batch_size", batch_size)):
        check_at_least(1 if value is None else value, 1, name)


def _mask(data, subset: str | None, mod: str | None) -> np.ndarray | None:
    """Which cells take part, an array of shape (n_cells,), bool."""
    if subset is None:
        return None
    mask = np.asarray(read(data, Slot("obs", (subset,), mod)))
    if mask.dtype != bool:
        msg = f"subset={subset!r} must be a boolean column of obs, True for the cells that take part."
        raise ValueError(msg)
    return mask


def _groups(data, split_key: str | None, mod: str | None, rows: np.ndarray) -> np.ndarray | None:
    """Codes of the groups that are held out as a whole, an array of shape (n_rows,)."""
    if split_key is None:
        return None
    slot = Slot("obs", (split_key,), mod)
    found = cast(Codes, column_value(read(data, slot), slot, "optimize", Input(kind="codes")))
    return np.array(found.levels, dtype=object)[np.asarray(found.codes)[rows]]


def _training(loss: Sum, n_trained: int, epochs, patience, batch_size, learning_rate, anchor: float) -> Training:
    if batch_size is None:
        batch_size = default_batch_size(n_trained)
        if any(part.of_sets for part in loss.parts):
            batch_size = int(np.clip(n_trained // 4, *SET_SIZE))
    return Training(
        epochs=epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
        weight_decay=1e-4,
        patience=patience,
        schedules={"anchor": lambda now: np.full_like(now, anchor / n_trained), "epoch": lambda now: now},
    )


def _with(stage: tuple[str, ...], models: tuple[str, ...]) -> tuple[str, ...]:
    return (*stage, *(name for name in models if name not in stage))


def _stages(registry: Registry, train, slots, steps, models: tuple[str, ...]) -> list[tuple[str, ...]]:
    """The steps of each stage, in their order, without ``models``, which are trained in all of them."""
    steps = None if steps is None else [registry[name].name for name in steps]
    if train is not None:
        train = [train] if isinstance(train, str) else list(train)
        names = [name for stage in train for name in ([stage] if isinstance(stage, str) else stage)]
        if len(set(names)) < len(names):
            msg = f"train={train} names a step twice."
            raise ValueError(msg)
        if not train:
            msg = 'train=[] names no step: name steps, train=["pca"], or leave it out.'
            raise ValueError(msg)
        return [(stage,) if isinstance(stage, str) else tuple(stage) for stage in train]
    able = [step for step in registry if steps is None or step.name in steps]
    named = [end for slot in slots if slot is not None and (end := registry.writer(slot)) is not None]
    named += [registry[name] for name in models]
    if not named:  # what was written beside a step is not trained in its place
        able = [step for step in able if not step.trained.get("key_added")]
    able = [step for step in able if all(step is end or registry.depends(end, step.id) for end in named)]
    projections = [step for step in able if _role(step) == "projection"]
    if not projections and models:
        return [()]
    if not projections:
        judged = [Slot.parse(slot).written() for slot in slots if slot is not None]
        what = f"{judged[0]} is not computed from a projection" if judged else "There is no projection"
        there = ", ".join(step.name for step in registry if steps is None or step.name in steps)
        msg = f"{what} (PCA, VAE) among {there or 'no step'}: name the steps to train, train=[...]."
        raise ValueError(msg)
    projection = max(projections, key=lambda step: step.at)
    gates = [step for step in able if _role(step) == "gate" and registry.depends(projection, step.id)]
    return [(step.name,) for step in (projection, *gates)]


def _role(step: Step) -> str | None:
    return step.operator_class.role if step.operator in CATALOGUE else None


def _say(outcome: Outcome) -> None:
    """Print a line for each stage, unless the verbosity is errors only."""
    for stage in outcome.stages:
        parts = ", ".join(f"{name} {stage.before[name]:.3f} -> {stage.after[name]:.3f}" for name in stage.before)
        log.say(
            Verbosity.warning,
            f"{', '.join(stage.steps)}: {stage.gain:+.3f} +- {stage.standard_error:.3f} per held-out cell ({parts}), "
            f"{stage.verdict}",
        )
