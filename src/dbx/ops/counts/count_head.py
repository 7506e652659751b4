"""Counts from an embedding by a log-linear map, and parameters of genes: the head for objectives of counts."""

from __future__ import annotations

from collections.abc import Callable, Collection

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.ops.arrays import as_float
from dbx.ops.counts.count_profile import count_profile
from dbx.ops.nn.epochs import default_batch_size
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Progress

INFLATION = -3.0
"""Log-odds of the zero inflation before training."""


class CountHead(nnx.Module):
    """What an objective of counts learns: a map of coordinates to log-proportions, and parameters of the genes.

    Linear, as for labels, so that the gain of training the steps before it is in the coordinates themselves.
    """

    def __init__(self, *, decodes: bool, learned: Collection[str]):
        """``learned`` are among ``theta``, ``dispersion`` and ``inflation``."""
        self.decodes, self.learned = decodes, tuple(learned)

    def reset(self, z: np.ndarray, x: RowBlocks) -> None:
        """Start at the frequencies of the genes, and at their dispersions by moments."""
        start = count_profile(x, np.zeros(x.n_rows, np.int32), 1)
        if self.decodes:
            spread = z.std(axis=0)
            self.centre = Constant(as_float(z.mean(axis=0)))
            self.spread = Constant(as_float(np.where(spread, spread, 1)))
            self.level = nnx.Param(as_float(np.log(start.frequency[0])))
            self.weight = nnx.Param(as_float(np.zeros((z.shape[1], x.n_columns))))
        if "inflation" in self.learned:
            self.inflation = nnx.Param(as_float(np.full(x.n_columns, INFLATION)))
        if {"theta", "dispersion"} & set(self.learned):
            self.log_theta = nnx.Param(as_float(np.log(start.theta)))

    def fit(
        self,
        loss: Callable[[CountHead, dict[str, jax.Array]], jax.Array],
        z: np.ndarray,
        x: RowBlocks,
        held_out: np.ndarray,
        *,
        seed: int,
        progress: Progress,
    ) -> None:
        """Train until held-out rows are no longer predicted better; ``loss`` is that of each cell of a minibatch."""
        self.reset(z, x)
        how = Training(epochs=200, batch_size=default_batch_size(x.n_rows), learning_rate=1e-2, patience=10)
        data = Minibatches({"z": np.ascontiguousarray(z, np.float32), "x": x})
        train(
            self,
            lambda head, batch, key: (loss(head, batch), {}),
            data,
            how,
            held_out=held_out,
            seed=seed,
            progress=progress,
        )

    def __call__(self, z):
        """Logarithms of the proportions of the genes, an array of shape (n_cells, n_genes)."""
        u = (z - self.centre[...]) / self.spread[...]
        return jax.nn.log_softmax(self.level[...] + u @ self.weight[...])

    def of_genes(self, name: str):
        """A learned parameter of the genes: ``theta``, ``dispersion``, or the log-odds of the ``inflation``."""
        if name == "inflation":
            return self.inflation[...]
        return jnp.exp(self.log_theta[...] * (-1 if name == "dispersion" else 1))
