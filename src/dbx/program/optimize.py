"""Train recorded steps through everything between them and an objective."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from dbx.losses.objectives import Objective, Sum, as_sum
from dbx.ops.label_head import default_batch_size
from dbx.ops.settings_checks import check_held_out
from dbx.ops.training import Training
from dbx.program import log
from dbx.program.chain import make_chain
from dbx.program.location import Location
from dbx.program.material import Material, coordinates, make_material, start_heads
from dbx.program.optimized import recorded
from dbx.program.registry import Registry, load
from dbx.program.run import commit
from dbx.program.slots import Slot, holder, read
from dbx.program.stages import Outcome, run_stages

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

PROJECTIONS = ("pca", "vae_normalize")
GATE = "gene_gate"
"""What is freed by default after the projection."""
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
    unlabeled: str = "Unknown",
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
    """Train recorded steps through everything between them and an objective; never worse than they were.

    What judges the coordinates (logistic regression for ``CrossEntropy``) is first trained on them as they are. Then
    the parameters of the steps move, together with it, from where they were fitted: Adam on minibatches, with a penalty
    on how far they go and three tenths of the input values hidden at each step (none with ``Elbo`` or
    ``Reconstruction``, which tell them again). Cells are held out all along; training stops when these do not improve.
    Steps are freed one after the other, each together with those before it, and a step is kept as trained only if the
    mean loss of the held-out cells fell by more than one standard error of the difference and, with ``CrossEntropy``
    alone, more than 2% of them were told wrongly before. Otherwise it stays as it was.

    Parameters
    ----------
    adata
        Annotated data with a program in ``uns["dbx"]``.
    loss
        What to improve: one of :mod:`dbx.losses`, a sum of them, or a function that takes the judged slot (an array of
        shape (n_cells, n_dims)) and returns an array of shape (n_cells,). A sum without weights is balanced: each part
        is divided by its size before (root mean square over held-out cells). ``a + 0.1 * b`` is taken as it stands.
    train
        Names of the steps whose parameters move, in the order in which they are freed; a tuple of names is freed at
        once. By default the last projection (PCA, VAE) before the judged slot, then the gene gate before it, if there
        is one; not the normalisation, which has hardly anything to gain: name it last.
    steps
        Names of the steps to train through, all by default. What comes before the first is taken as it lies there; the
        last one writes what is judged where ``loss`` names no slot.
    validation
        Share of the cells that is held out (of the labelled ones, where there are labels).
    split_key
        Column of ``obs`` whose groups (donors, batches) are held out as a whole.
    unlabeled
        What cells without a label are called, besides missing values: they get a prediction.
    anchor
        Penalty on the squared distance that parameters go, in units of their own; divided by the number of cells
        trained on, so that it fades with more.
    max_epochs, patience
        Most passes over the cells, and after how many that were not better for held-out cells to stop.
    batch_size
        Most cells in a minibatch; by default a sixteenth of the cells, from 32 to 128; a quarter, from 64 to 256,
        where the loss judges cells by each other.
    learning_rate
        Step size of Adam; a projection moves by ten times this, relative to its loadings.
    key_added
        Write what the trained steps give to new slots with this at their end (``obsm["X_pca_<key_added>"]``), recorded
        as steps of their own, and leave the steps as they are.
    inputs
        Where something that the program starts from is now, such as ``{"X": "layers/counts"}``.
    random_state
        Seed of the split, the start of the heads, and the minibatches.
    copy
        Work on a copy and return it.

    Returns
    -------
    None, or the copy with ``copy=True``. Where steps were kept as trained, what they and the steps after them up to
    the judged slots write is written anew, and later steps are marked stale. Writes besides:

    ``obs["<label>_predicted"]``, ``obs["<label>_confidence"]``, ``obsm["<label>_probabilities"]``
        With ``CrossEntropy``: predicted label, its probability, and those of all labels, array of shape (n_cells,
        n_labels).
    ``uns["optimize"]``
        ``trained`` and ``kept`` (a name and a flag for each stage), ``gain`` and ``standard_error`` (of the loss, per
        held-out cell), ``losses`` (each part before and after, and its weight), ``before`` (the parameters as they
        were), ``held_out`` (names of cells), ``history`` (arrays of shape (n_epochs,)).

    Raises
    ------
    ValueError
        There is no program; a step has nothing to train or does not work on each cell by itself; there are no labels,
        or but one.
    KeyError
        A step or a slot is not there.
    """
    check_held_out(validation, "validation")
    data, loss = adata.copy() if copy else adata, as_sum(loss)
    registry = load(data)
    slots = [part.slot for part in loss.parts]
    stages = _stages(registry, train, slots, steps)
    names = [name for stage in stages for name in stage]
    mod = registry[names[0]].mod
    n_cells = holder(data, Slot("obs", mod=mod)).n_obs
    location = Location(data, registry, dict(inputs or {}), own=True)
    chain = make_chain(registry, location, n_cells, names, slots, steps)
    location.check_inputs()
    material = make_material(data, chain, loss, unlabeled)
    groups = None if split_key is None else np.asarray(read(data, Slot("obs", (split_key,), mod)))[material.rows]
    apart = held_out(_candidates(material), groups, validation, np.random.default_rng(random_state))
    how = _training(loss, len(material.rows) - len(apart), max_epochs, patience, batch_size, learning_rate, anchor)
    with log.timed("optimizing " + ", ".join(names)), log.progress("optimize") as show:
        coordinates(chain)
        start_heads(chain, material, apart, random_state, show)
        outcome = run_stages(chain, material, loss, stages, apart, how, seed=random_state, progress=show)
    values = recorded(data, registry, chain, material, outcome, apart, key_added, random_state)
    commit(data, registry, values)
    _say(outcome)
    return data if copy else None


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
        schedules={"anchor": lambda now: np.full_like(now, anchor / n_trained)},
    )


def _stages(registry: Registry, train, slots, steps) -> list[tuple[str, ...]]:
    """Which steps are freed at once, in their order."""
    if not len(registry):
        msg = "No program is recorded here (uns['dbx']): run dbx.pp and dbx.tl steps first, or dbx.adopt(adata)."
        raise ValueError(msg)
    if train is not None:
        train = [train] if isinstance(train, str) else list(train)
        if not train:
            msg = 'train=[] frees nothing: name steps, train=["pca"], or leave it out.'
            raise ValueError(msg)
        return [(stage,) if isinstance(stage, str) else tuple(stage) for stage in train]
    able = [step for step in registry if steps is None or step.name in steps]
    named = [end for slot in slots if slot is not None and (end := registry.writer(slot)) is not None]
    able = [step for step in able if all(step is end or registry.depends(end, step.id) for end in named)]
    projections = [step for step in able if step.operator in PROJECTIONS]
    if not projections:
        judged = [Slot.parse(slot).written() for slot in slots if slot is not None]
        what = f"{judged[0]} is not computed from a projection" if judged else "There is no projection"
        there = ", ".join(step.name for step in registry if steps is None or step.name in steps)
        msg = f"{what} (PCA, VAE) among {there or 'no step'}: name the steps to train, train=[...]."
        raise ValueError(msg)
    projection = max(projections, key=lambda step: step.at)
    gates = [step for step in able if step.operator == GATE and registry.depends(projection, step.id)]
    return [(step.name,) for step in (projection, *gates)]


def _candidates(material: Material) -> np.ndarray:
    """Rows that may be held out: those with every label."""
    known = [labels.known[material.rows] >= 0 for labels in material.labels.values()]
    return np.flatnonzero(np.all(known, axis=0)) if known else np.arange(len(material.rows))


def held_out(rows: np.ndarray, groups, share: float, rng: np.random.Generator) -> np.ndarray:
    """Some of the rows: at random, or whole groups until they are that share."""
    if groups is None:
        return np.sort(rng.permutation(rows)[: max(round(share * len(rows)), 1)])
    levels = rng.permutation(np.unique(groups[rows]))
    if len(levels) < 2:
        msg = f"split_key has one group only ({str(levels[0])!r}): there is nothing to hold out."
        raise ValueError(msg)
    sizes = np.cumsum([np.sum(groups[rows] == level) for level in levels])
    n_groups = min(int(np.searchsorted(sizes, share * len(rows))) + 1, len(levels) - 1)
    return rows[np.isin(groups[rows], levels[:n_groups])]


def _say(outcome: Outcome) -> None:
    for stage in outcome.stages:
        parts = ", ".join(f"{name} {stage.before[name]:.3f} -> {stage.after[name]:.3f}" for name in stage.before)
        verdict = "kept as trained" if stage.kept else "left as it was: not more than noise, or hardly an error before"
        log.hint(
            f"{', '.join(stage.steps)}: {stage.gain:+.3f} +- {stage.standard_error:.3f} per held-out cell ({parts}), "
            f"{verdict}"
        )
