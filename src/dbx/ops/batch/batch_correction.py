"""Common parts of the batch corrections by MMD and WGAN: settings, autoencoder, weights, outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.losses.counts import log_factorial
from dbx.ops.arrays import as_float
from dbx.ops.batch.composition import shared_composition
from dbx.ops.checks import check_known, check_minimums
from dbx.ops.counts.count_autoencoder import CountAutoencoder
from dbx.ops.counts.count_profile import count_profile
from dbx.ops.counts.vae import LIKELIHOODS
from dbx.ops.nn.epochs import default_epochs
from dbx.ops.nn.training import Training
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Codes

DROPOUT = 0.1
NOISE = 0.5
MAX_EPOCHS = 200
RAMP = 0.1
"""Fraction of the epochs over which the weight of the discrepancy rises."""


class BatchCorrection(Operator):
    """Counts encoded without the batch and decoded with it, trained for equal latent distributions of the batches.

    ``z`` is the encoding of each cell, which does not depend on its batch, so that new cells need none.
    """

    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",), empty_cells="raise"),
        "batch": Input(kind="codes", unseen="missing", of_fitted_cells=True, optional=True),
    }
    outputs: ClassVar = {
        "z": Output(content="embedding"),
        "history": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True
    likelihood: str
    strength: float
    followed: ClassVar[tuple[str, ...]]
    """Names of the curves in the history."""

    def __init__(
        self,
        *,
        likelihood: str = "nb",
        n_latent: int = 10,
        n_hidden: int = 128,
        n_layers: int = 1,
        strength: float = 1000.0,
        weighted: bool = True,
        max_epochs: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        n_genes: int | None = None,
        n_batches: int | None = None,
    ):
        check_known(likelihood, LIKELIHOODS, "likelihood")
        if not strength >= 0:
            msg = f"strength must be at least 0; got {strength}."
            raise ValueError(msg)
        self.likelihood, self.n_latent, self.n_hidden, self.n_layers = likelihood, n_latent, n_hidden, n_layers
        self.strength, self.weighted = strength, weighted
        self.max_epochs, self.batch_size, self.learning_rate = max_epochs, batch_size, learning_rate
        self.n_genes, self.n_batches = n_genes, n_batches
        check_minimums(self, n_latent=1, n_hidden=1, n_layers=1, batch_size=8, max_epochs=1)
        self.autoencoder = CountAutoencoder(
            likelihood=likelihood,
            n_latent=n_latent,
            n_layers=n_layers,
            dropout=DROPOUT,
            noise=NOISE,
            n_batches=n_batches or 1,
        )

    def fit(self, *, x: RowBlocks, batch: Codes | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Draw the parameters and train them."""
        batch = _batches(batch)
        self.n_genes, self.n_batches = x.n_columns, batch.n_levels
        codes = np.asarray(batch.codes, np.int32)
        start = count_profile(x, codes, self.n_batches)
        rng = np.random.default_rng(seed)
        self.autoencoder.reset(rng, start, self.n_hidden)
        columns: dict[str, RowBlocks | np.ndarray] = {"x": x, "batch": codes}
        if self.weighted:
            columns["weights"] = shared_composition(x, codes, self.n_batches, seed=seed)
        epochs = default_epochs(x.n_rows, MAX_EPOCHS) if self.max_epochs is None else self.max_epochs
        how = Training(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            epsilon=0.01,
            weight_decay=1e-6,
            schedules={"strength": lambda done: self.strength * np.minimum(done / (RAMP * epochs), 1)},
        )
        history = self._train(Minibatches(columns), how, rng, seed, progress)
        self.autoencoder.settle(x)
        for name in ("loss", "reconstruction"):
            history[name] = history[name] + start.log_factorial.mean()
        self.trace = Constant(as_float([history[name] for name in self.followed]))

    def _train(self, data: Minibatches, how: Training, rng: np.random.Generator, seed: int, progress: Progress):
        """Train the networks and return the history."""
        raise NotImplementedError

    def __call__(self, x, batch: Codes | None = None):
        """Latent coordinates."""
        return {"z": self.autoencoder.encode(x)}

    def loss(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]):
        """Negative log-likelihood of each cell's counts, decoded from ``outputs["z"]``, in nats."""
        x, z = inputs["x"], outputs["z"]
        codes = jnp.full(len(x), -1) if inputs.get("batch") is None else inputs["batch"].codes
        return self.autoencoder.reconstruction(x, z, codes) + log_factorial(x).sum(axis=-1)

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Means over the cells in each epoch, arrays of shape (n_epochs,)."""
        return dict(zip(self.followed, np.asarray(self.trace[...]), strict=True))


def _batches(batch: Codes | None) -> Codes:
    """The batches, once there are at least two of them."""
    if batch is None:
        msg = "There are no batches to correct for: pass the column of batches."
        raise ValueError(msg)
    present = np.unique(np.asarray(batch.codes))
    if len(present) < 2:
        msg = f"All cells are from one batch ({batch.levels[present[0]]!r}): there is nothing to correct."
        raise ValueError(msg)
    return batch
