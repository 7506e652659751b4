"""The heads (classifiers, decoders) that judge trained steps, fitted first to the results as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import take
from dbx.program.training.chain import Chain
from dbx.program.training.dataset import Dataset
from dbx.program.training.objective import Part


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
        elif head is not None:
            rows = np.setdiff1d(np.arange(len(dataset.rows)), held_out)
            target = _target(chain, dataset, part)
            head.reset(embedding(chain, part.slot)[dataset.rows[rows]], take(target, rows))


def _target(chain: Chain, dataset: Dataset, part: Part) -> RowBlocks | np.ndarray:
    """What a decoder reconstructs."""
    place = part.reads["of"]
    if place in dataset.columns:
        return dataset.columns[place]
    roots = list(chain.pipeline.inputs)
    if place in roots:
        return dataset.columns[f"root{roots.index(place)}"]
    return RowBlocks(embedding(chain, place)[dataset.rows])
