"""The data of an optimisation: the cells, and the columns of its minibatches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import RESIDENT_BYTES
from dbx.losses import BatchMixing, CrossEntropy, MaskedReconstruction, Poisson
from dbx.losses.objectives import Objective, Sum
from dbx.ops.annotation.labels import unlabeled_levels
from dbx.ops.apply import take
from dbx.ops.operator import Input, Operator
from dbx.ops.values import Codes, Edges, Graph
from dbx.program.slots.checks import check_matrix
from dbx.program.slots.columns import column_value
from dbx.program.slots.genes import gene_columns
from dbx.program.slots.slots import Slot, gene_names, read
from dbx.program.training.chain import Chain
from dbx.program.training.labels import Labels, check_labels, check_names, judged_slot, read_labels
from dbx.program.training.objective import Part
from dbx.program.training.partial import read_partial
from dbx.program.training.reconstructed import centres_of, head_of, mean_variance, parameters_of_genes

DISCRETE = Input(kind="codes", missing=True)
ANY_COLUMN = Input(kind="columns", missing=True)
COUNTS = Input(genes=True, content=("counts",))
METHODS = {
    "loss": "an objective of its own",
    "expected_open": "gates",
    "reconstructions": "a variational autoencoder",
}
"""Method of an operator -> what a step with it has."""


@dataclass
class Dataset:
    """Cells and columns; rows are numbered within the cells that take part."""

    parts: tuple[Part, ...]
    rows: np.ndarray
    """The cells that take part."""
    columns: dict[str, RowBlocks | np.ndarray]
    levels: dict[str, tuple[str, ...] | None]
    """Slot that the chain starts from -> levels of a column, None for numbers."""
    centres: dict[str, np.ndarray]
    """Column of the minibatch -> the value that replaces a dropped one."""
    labels: dict[str, Labels]
    """Name of a part -> its labels."""
    known: dict[str, np.ndarray]
    """Name of a part -> whether each cell has the value without which it does not count: shape (n_cells,), bool."""
    heads: dict[str, nnx.Module]
    """Name of a part -> the head that judges it, fitted first by :func:`start_heads`."""
    sequences: np.ndarray | None
    """Number of the sequence of each row, where minibatches hold whole sequences, an array of shape (n_rows,)."""
    whole: dict[str, np.ndarray | Graph]
    """What the chain starts from of all cells, where it passes a graph; with each cell's neighbours, where it does so
    by blocks."""


def make_dataset(data, chain: Chain, loss: Sum, unlabeled: Any, mask: np.ndarray | None = None) -> Dataset:
    """Read what the objectives need of each cell; only those in the mask take part."""
    n_cells = chain.replay.n_cells
    names = _names(loss.parts)
    labels = {
        name: read_labels(data, chain, part, unlabeled, mask)
        for name, part in zip(names, loss.parts, strict=True)
        if isinstance(part, CrossEntropy)
    }
    check_labels(labels)
    rows = np.arange(n_cells) if mask is None else np.flatnonzero(mask)
    partial = {
        name: read_partial(data, chain, part, unlabeled, mask)
        for name, part in zip(names, loss.parts, strict=True)
        if part.partial is not None
    }
    known = {name: x.known >= 0 for name, x in labels.items()} | {name: np.isfinite(x) for name, x in partial.items()}
    if len(known) == len(loss.parts):
        rows = rows[np.all([x[rows] for x in known.values()], axis=0)]
    roots = chain.roots()
    columns: dict[str, Any] = {
        f"root{i}": x if len(rows) == n_cells else take(x, rows)
        for i, x in enumerate(roots.values())
        if not isinstance(x, Edges)
    }
    reconstructed = any(part.of_values for part in loss.parts)
    centres = {} if reconstructed or chain.together else centres_of(chain, columns)
    columns = {name: np.asarray(x.codes) if isinstance(x, Codes) else x for name, x in columns.items()}
    columns["row"] = np.arange(len(rows), dtype=np.int32)
    parts = tuple(
        _part(data, chain, name, part, labels, partial, rows, columns, unlabeled)
        for name, part in zip(names, loss.parts, strict=True)
    )
    levels = {slot: x.levels if isinstance(x, Codes) else None for slot, x in roots.items()}
    heads: dict[str, nnx.Module] = {name: x.head.head for name, x in labels.items()}
    heads |= {part.name: head for part in parts if (head := head_of(part)) is not None}
    whole = _whole(chain, roots)
    if whole:
        columns["cell"] = rows.astype(np.int32)
    sequences = chain.sequences()
    sequences = None if sequences is None else sequences[rows]
    return Dataset(parts, rows, columns, levels, centres, labels, known, heads, sequences, whole)


def _whole(chain: Chain, roots) -> dict[str, Any]:
    """Columns that neighbours of a minibatch's cells are taken from; none where the chain passes no graph."""
    neighbours = None if chain.together else chain.neighbours
    if neighbours is None and not chain.together:
        return {}
    size = sum(x.n_rows * x.n_columns * 4 for x in roots.values() if isinstance(x, RowBlocks))
    if size > RESIDENT_BYTES:
        msg = (
            f"Training through a graph of neighbours needs all cells on the device, {size / 1e9:.1f} GB here: select "
            "variable genes first, or judge a slot before the graph."
        )
        raise ValueError(msg)
    found = {f"root{i}": _of_all(x) for i, x in enumerate(roots.values())}
    return found if neighbours is None else {"neighbours": neighbours} | found


def _of_all(x: RowBlocks | Codes | Edges | np.ndarray) -> np.ndarray | Graph:
    """Values of all cells, as they go to the device."""
    if isinstance(x, Edges):
        return Graph.from_csr(x.matrix, rows=np.arange(len(x), dtype=np.int32))
    return np.asarray(x.dense() if isinstance(x, RowBlocks) else x.codes if isinstance(x, Codes) else x)


def _names(parts: Iterable[Objective]) -> list[str]:
    """Names of parts, numbered from the second of a kind on."""
    seen: Counter[str] = Counter()
    names = []
    for part in parts:
        seen[part.name] += 1
        names.append(part.name if seen[part.name] == 1 else f"{part.name}_{seen[part.name]}")
    return names


def _part(data, chain: Chain, name: str, part: Objective, labels, partial, rows, columns, unlabeled: Any) -> Part:
    """Where the values of an objective are; what is not in the chain becomes a column of the minibatches."""
    mod = chain.trained[0].mod
    reads: dict[str, str] = {}
    facts: dict[str, Any] = {}
    labelled = 1.0
    if name in labels:
        labelled = float(np.mean(labels[name].known[rows] >= 0))
        reads["label"], columns[f"{name}.label"] = f"{name}.label", labels[name].known[rows]
    if part.partial is not None:
        labelled = max(float(np.mean(np.isfinite(partial[name][rows]))), 1 / len(rows))
        found = partial[name][rows]
        numbers = np.where(np.isfinite(found), found, -1).astype(np.int32) if part.column == "results" else found
        reads[part.partial], columns[f"{name}.{part.partial}"] = f"{name}.{part.partial}", numbers
    for key, address in part.reads.items():
        if key in reads:
            continue
        slot = Slot.parse(address, mod) if address else _first_matrix(chain)
        place: str = slot
        if slot not in chain.computed and slot not in chain.pipeline.inputs:
            value = _column(data, chain, part, slot, unlabeled)
            place = f"{name}.{key}"
            columns[place] = take(np.asarray(value.codes) if isinstance(value, Codes) else value, rows)
        reads[key] = place
    masks, mask_rate = "", 0.0
    if isinstance(part, BatchMixing):
        facts["batch"] = _shares(chain, columns, reads["batch"], part.batch)
    if part.operator is not None:
        facts |= _spread(data, chain, _step(chain, part))
    if isinstance(part, Poisson):
        facts |= parameters_of_genes(data, chain, part, _first_matrix(chain))
        counts = Slot.parse(part.of, mod) if part.of else _first_matrix(chain)
        who = type(part).__name__
        advice = f"Name the slot of raw counts, such as {who}('layers/counts')."
        check_matrix(columns[_column_of(chain, reads["of"])], COUNTS, counts, None, who, advice=advice)
    if isinstance(part, MaskedReconstruction):
        masks, mask_rate = reads["of"], part.mask_rate
        place = _column_of(chain, masks)
        facts |= {"centre": centres_of(chain, columns)[place], "variance": np.float32(mean_variance(columns[place]))}
    return Part(name, part, judged_slot(chain, part), reads, facts, _step(chain, part), masks, mask_rate, labelled)


def _column_of(chain: Chain, place: str) -> str:
    """Name of the column of the minibatches that a slot is, where the chain starts from it."""
    roots = list(chain.pipeline.inputs)
    return f"root{roots.index(place)}" if place in roots else place


def _first_matrix(chain: Chain) -> Slot:
    return next(v.slot for v in chain.pipeline.plan.roots if v.slot.container not in ("obs", "obsp"))


def _check_velocity(chain: Chain, slot: Slot) -> None:
    if slot.is_gene_matrix and not _first_matrix(chain).is_gene_matrix:
        msg = (
            f"{slot.written()} are velocities of genes, and {_first_matrix(chain)}, which the trained steps start "
            "from, has none: train an earlier step, or name velocities of the embedding."
        )
        raise ValueError(msg)


def _column(data, chain: Chain, part: Objective, slot: Slot, unlabeled: Any) -> RowBlocks | Codes | np.ndarray:
    """A slot outside the chain, with the genes that the chain starts from."""
    value = read(data, slot)
    if slot.container == "obs" and part.column == "values":
        return column_value(value, slot, "optimize", ANY_COLUMN)
    if slot.container == "obs":
        check_names(value, slot)
        found = cast(Codes, column_value(value, slot, "optimize", DISCRETE))
        without = np.flatnonzero(unlabeled_levels(found.levels, unlabeled))
        return Codes(np.where(np.isin(found.codes, without), -1, found.codes), found.levels)
    if part.name == "velocity_consistency":
        _check_velocity(chain, slot)
        value = np.nan_to_num(np.asarray(RowBlocks(value).dense()))
    blocks = RowBlocks(value, dtype=np.float32)
    genes = chain.pipeline.inputs.get(_first_matrix(chain))
    if not slot.is_gene_matrix or genes is None:
        return blocks
    chosen = gene_columns(gene_names(data, slot), genes, chain.trained[0].name, "raise")
    return blocks if chosen is None else blocks.select(chosen)


def _shares(chain: Chain, columns, place: str, name: str) -> np.ndarray:
    """Share of each batch among the cells."""
    roots = list(chain.pipeline.inputs)
    codes = columns[f"root{roots.index(place)}" if place in roots else place]
    counts = np.bincount(codes[codes >= 0])
    if (counts > 0).sum() < 2:
        msg = f"obs[{name!r}] has one batch only: nothing can be mixed."
        raise ValueError(msg)
    return np.maximum(counts / counts.sum(), 1e-6).astype(np.float32)


def _spread(data, chain: Chain, name: str) -> dict[str, np.ndarray]:
    """Standard deviation of each feature of the data that a step is about, where the chain computes them."""
    step = next(step for step in chain.steps if step.name == name)
    slots = [entry.slots[0] for key, entry in step.reads.items() if step.operator_class.inputs[key].kind == "matrix"]
    found = next((slot for slot in slots if slot in chain.computed), None)
    return {} if found is None else {"spread": RowBlocks(read(data, found)).dense().std(axis=0) + 1e-12}


def _step(chain: Chain, part: Objective) -> str:
    """The trained step that an objective is about."""
    needed = part.method
    if needed is None:
        return ""
    operators = {step.name: chain.pipeline.operators[step.name] for step in chain.steps}
    able = [name for name, operator in operators.items() if _has(operator, needed)]
    trained = [step.name for step in chain.trained if step.name in able]
    name = getattr(part, "step", None)
    if name is None and trained:
        return trained[0]
    if name in able:
        return name
    asked = f"Step {name!r} of the chain" if name else "A trained step"
    msg = f"{asked} with {METHODS[needed]} is needed; steps that have: {', '.join(able) or 'none'}."
    raise ValueError(msg)


def _has(operator: Operator, needed: str) -> bool:
    return getattr(type(operator), needed, None) not in (None, getattr(Operator, needed, None))
