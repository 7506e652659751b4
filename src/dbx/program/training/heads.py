"""What judges the results of trained steps, started on the results as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import take
from dbx.program.training.chain import Chain
from dbx.program.training.dataset import Material
from dbx.program.training.objective import Part


def coordinates(chain: Chain) -> None:
    """Run the steps of the chain as they are; the replay has what they compute."""
    for step in chain.steps:
        chain.replay.run(step, chain.pipeline.operators[step.name], np.arange(chain.replay.n_cells, dtype=np.int32))


def embedding(chain: Chain, slot: str) -> np.ndarray:
    """What the chain computes for a slot, an array of shape (n_cells, n_dims)."""
    value = chain.replay.env[chain.version(slot)].value
    return RowBlocks(value, dtype=np.float32).dense()


def start_heads(chain: Chain, material: Material, apart: np.ndarray, seed: int, progress) -> None:
    """Train the heads on the coordinates as they are; ``apart`` are held-out rows."""
    for part in material.parts:
        head: Any = material.heads.get(part.name)
        if part.name in material.labels:
            labels = material.labels[part.name]
            z, held_out = embedding(chain, part.slot), material.rows[apart]
            labels.head.fit_rows(z, labels.known, held_out, seed=seed, progress=progress)
        elif head is not None:
            rows = np.setdiff1d(np.arange(len(material.rows)), apart)
            target = _target(chain, material, part)
            head.reset(embedding(chain, part.slot)[material.rows[rows]], take(target, rows))


def _target(chain: Chain, material: Material, part: Part) -> RowBlocks | np.ndarray:
    """What a decoder is to give back."""
    place = part.reads["of"]
    if place in material.columns:
        return material.columns[place]
    roots = list(chain.pipeline.inputs)
    if place in roots:
        return material.columns[f"root{roots.index(place)}"]
    return RowBlocks(embedding(chain, place)[material.rows])
