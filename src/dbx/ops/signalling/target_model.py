"""Targets predicted from a baseline and signals, trained together."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.data.moments import moments
from dbx.ops.arrays import as_float
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Progress
from dbx.ops.signalling.baseline import baseline_columns
from dbx.ops.signalling.messages import Messages
from dbx.ops.signalling.received import Cells, received

BATCH, RATE, PATIENCE = 512, 0.02, 15


class Targets(NamedTuple):
    """Genes to predict, with their mean and standard deviation."""

    values: RowBlocks
    mean: np.ndarray
    sd: np.ndarray
    """1 for a gene that does not vary."""

    @classmethod
    def of(cls, values: RowBlocks) -> Targets:
        """With the moments of all cells."""
        found = moments(values)
        return cls(values, found.mean[0], _positive(np.sqrt(found.variance[0])))


class TargetModel(nnx.Module):
    """targets = baseline @ base + (signal - mean) / sd @ readout; the readout starts at zero.

    Mean and standard deviation of signals are those at the start, so that the penalty means the same for each ligand.
    """

    def __init__(self, messages: Messages, cells: Cells, targets: Targets, base: np.ndarray, penalty: float):
        self.messages, self.penalty, self.by_group = messages, penalty, cells.by_group
        start = received(messages, cells)
        self.base = nnx.Param(as_float(base))
        self.readout = nnx.Param(as_float(np.zeros((start.shape[1], base.shape[1]))))
        self.mean, self.sd = Constant(as_float(start.mean(axis=0))), Constant(as_float(_positive(start.std(axis=0))))
        self.target_mean, self.target_sd = Constant(as_float(targets.mean)), Constant(as_float(targets.sd))
        self.senders, self.sender_group = Constant(as_float(cells.senders)), Constant(as_float(cells.group))

    def __call__(self, batch):
        """Standardised targets of some cells, an array of shape (n_cells, n_targets)."""
        receivers = (batch[name] for name in ("receptors", "of_group", "group", "indices", "mask", "squares"))
        signals = self.messages(self.senders[...], *receivers, sender_group=self.sender_group[...])
        known = baseline_columns(batch["group"], batch["receptors"], batch["nearby"], by_group=self.by_group)
        return known @ self.base[...] + (signals - self.mean[...]) / self.sd[...] @ self.readout[...]


def penalised_error(model: TargetModel, batch, key):
    """Mean squared error of the targets, and in training an L1 penalty on the readout: few ligands act on a target."""
    targets = (batch["targets"] - model.target_mean[...]) / model.target_sd[...]
    error = ((targets - model(batch)) ** 2).mean(axis=1)
    penalty = 0.0 if key is None else model.penalty * jnp.abs(model.readout[...]).sum(axis=0).mean()
    return error + penalty, {"squared_error": error}


def train_messages(
    model: TargetModel,
    cells: Cells,
    targets: Targets,
    held: np.ndarray,
    max_epochs: int,
    *,
    seed: int,
    progress: Progress,
) -> dict[str, np.ndarray]:
    """Train all parts on the other cells, up to the best epoch for those that are held out."""
    columns = {name: part for name, part in cells._asdict().items() if name != "senders"}
    how = Training(epochs=max_epochs, batch_size=BATCH, learning_rate=RATE, patience=PATIENCE)
    data = Minibatches({"targets": targets.values, **columns})
    return train(model, penalised_error, data, how, held_out=np.flatnonzero(held), seed=seed, progress=progress)


def _positive(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 1)
