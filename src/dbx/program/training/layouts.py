"""Whether layouts go on depicting the neighbourhoods of their cells while they are trained."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Operator
from dbx.program.training.chain import Chain
from dbx.program.training.dataset import Dataset
from dbx.program.training.objective import BLOCK, PipelineLoss, context
from dbx.program.training.trainable import Trainable

NEIGHBOURS = 15
MOST_LOST = 0.01
"""Trustworthiness that held-out cells may lose, a standard error included."""


def depicting(chain: Chain, dataset: Dataset) -> list[str]:
    """Steps whose layout an objective judges that must leave the neighbourhoods as they are."""
    slots = {part.slot for part in dataset.parts if part.objective.keeps_neighbours}
    return [
        step.name
        for step in chain.steps
        if step.operator_class.depicted is not Operator.depicted and slots & set(step.writes.values())
    ]


def neighbourhoods_shown(
    model: Trainable, judged: PipelineLoss, dataset: Dataset, rows: np.ndarray, step: str
) -> np.ndarray:
    """Trustworthiness of a layout around each of these rows, among as many other cells as fit into a block.

    Of more rows than half a block every second, third, ... is looked at.
    """
    columns, rows = dataset.columns, rows[:: -(-len(rows) // (BLOCK // 2)) or 1]
    there = np.concatenate([rows, context(len(dataset.rows), rows)])
    batch = {name: x.dense(there) if isinstance(x, RowBlocks) else x[there] for name, x in columns.items()}
    graphdef, state = nnx.split(model)
    high, low = _depicted(judged, graphdef, state, step, batch)
    return trustworthiness(np.asarray(high, np.float64), np.asarray(low, np.float64), len(rows))


def mean_and_error(differences: np.ndarray) -> float:
    """Mean and one standard error of it."""
    return float(differences.mean() + differences.std(ddof=1) / np.sqrt(len(differences)))


@partial(jax.jit, static_argnums=(0, 1, 3))
def _depicted(judged: PipelineLoss, graphdef, state, step: str, batch):
    return judged.depicted(nnx.merge(graphdef, state), batch, step)


def trustworthiness(high: np.ndarray, low: np.ndarray, n_cells: int, n_neighbors: int = NEIGHBOURS) -> np.ndarray:
    """Of the first cells, how near their neighbours in a layout are in what it depicts, an array of shape (n_cells,).

    1 where the nearest cells of ``low`` are the nearest of ``high``, less by the ranks in ``high`` of those that are
    not (Venna and Kaski, Neural Networks 2001); the mean is that of ``sklearn.manifold.trustworthiness``. With fewer
    cells than twice ``n_neighbors`` a third of them are neighbours.
    """
    n = len(high)
    k = min(n_neighbors, max((n - 1) // 3, 1))
    worst = k * (2 * n - 3 * k - 1) / 2
    found = np.empty(n_cells)
    for cell in range(n_cells):
        far, near = (((x - x[cell]) ** 2).sum(axis=1) for x in (high, low))
        far[cell] = near[cell] = np.inf
        ranks = np.empty(n)
        ranks[np.argsort(far, kind="stable")] = np.arange(1, n + 1)
        chosen = np.argpartition(near, k - 1)[:k]
        found[cell] = 1 - np.maximum(ranks[chosen] - k, 0).sum() / worst
    return found
