"""The heads (classifiers, decoders) that judge trained steps, fitted first to the results as they are."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.losses.objectives import Cells
from dbx.ops.apply import take
from dbx.ops.counts.count_head import CountHead
from dbx.ops.values import Codes
from dbx.program.training.chain import Chain
from dbx.program.training.dataset import Dataset
from dbx.program.training.objective import BLOCK, Part, hidden_entries


def coordinates(chain: Chain) -> None:
    """Run the steps of the chain as they are; the replay keeps what they compute."""
    for step in chain.steps:
        chain.replay.run(step, chain.pipeline.operators[step.name], np.arange(chain.replay.n_cells, dtype=np.int32))


def embedding(chain: Chain, slot: str) -> np.ndarray:
    """What the chain computes for a slot, an array of shape (n_cells, n_dims)."""
    value = chain.replay.env[chain.version(slot)].value
    return RowBlocks(value, dtype=np.float32).dense()


def start_heads(chain: Chain, dataset: Dataset, held_out: np.ndarray, seed: int, progress) -> None:
    """Train the heads on the coordinates as they are; ``held_out`` are rows."""
    for part in dataset.parts:
        head: Any = dataset.heads.get(part.name)
        if part.name in dataset.labels:
            labels = dataset.labels[part.name]
            z = embedding(chain, part.slot)
            labels.head.fit_rows(z, labels.known, dataset.rows[held_out], seed=seed, progress=progress)
        elif isinstance(head, CountHead):
            z, x = embedding(chain, part.slot)[dataset.rows], RowBlocks(_target(chain, dataset, part))
            head.fit(partial(_count_loss, part), z, x, held_out, seed=seed, progress=progress)
        elif head is not None:
            rows = np.setdiff1d(np.arange(len(dataset.rows)), held_out)
            target = _target(chain, dataset, part)
            z = _with_hidden(chain, dataset, part) if part.masks else embedding(chain, part.slot)[dataset.rows]
            head.reset(z[rows], take(target, rows))


def _with_hidden(chain: Chain, dataset: Dataset, part: Part) -> np.ndarray:
    """What the chain computes where values are hidden; through a graph, what it computes of all values."""
    if dataset.whole:
        return embedding(chain, part.slot)[dataset.rows]
    pipeline, columns = chain.pipeline, {name: x for name, x in dataset.columns.items() if name.startswith("root")}

    @jax.jit
    def run(batch, ids):
        slots: dict[str, Any] = {
            slot: batch[f"root{i}"] if levels is None else Codes(batch[f"root{i}"], levels)
            for i, (slot, levels) in enumerate(dataset.levels.items())
        }
        hidden = hidden_entries(ids, slots[part.masks].shape[1], part.mask_rate, None)
        masked = jnp.where(hidden, part.facts["centre"], slots[part.masks])
        return pipeline({}, {**slots, part.masks: masked})[part.slot]

    found = []
    for start in range(0, len(dataset.rows), BLOCK):
        rows = np.arange(start, min(start + BLOCK, len(dataset.rows)), dtype=np.int32)
        batch = {name: x.dense(rows) if isinstance(x, RowBlocks) else x[rows] for name, x in columns.items()}
        found.append(np.asarray(run(batch, rows)))
    return np.concatenate(found)


def _count_loss(part: Part, head: CountHead, batch):
    """The objective of each cell of a minibatch of coordinates and counts."""
    cells = Cells(z=batch["z"], read={"of": batch["x"]}, rows=None, head=head, facts=part.facts)
    return part.objective.of_cells(cells)


def _target(chain: Chain, dataset: Dataset, part: Part) -> RowBlocks | np.ndarray:
    """What a decoder reconstructs."""
    place = part.reads["of"]
    if place in dataset.columns:
        return dataset.columns[place]
    roots = list(chain.pipeline.inputs)
    if place in roots:
        return dataset.columns[f"root{roots.index(place)}"]
    return RowBlocks(embedding(chain, place)[dataset.rows])
