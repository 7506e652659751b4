"""Denoised counts by a transformer trained to predict hidden counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.losses.counts import log_factorial, poisson_kernel
from dbx.ops.arrays import as_float, unit_log
from dbx.ops.checks import check_above_zero, check_fraction, check_minimums
from dbx.ops.components.principal_axes import principal_axes
from dbx.ops.counts.count_profile import count_profile
from dbx.ops.nn.mlp import Linear
from dbx.ops.nn.set_transformer import N_HEADS, SetEncoder
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent

SAMPLE, N_AXES = 5_000, 30
"""Cells and principal axes from which the embedding of the genes is initialised."""
MAX_EXACT = 32
"""Larger counts are thinned by the normal approximation."""


class Denoiser(nnx.Module):
    """Counts of a cell's genes to the log-proportions of all genes."""

    def __init__(self, *, n_blocks: int):
        self.encoder, self.decoder = SetEncoder(n_blocks=n_blocks), Linear()

    def reset(self, rng: np.random.Generator, embedding: np.ndarray, n_latents: int, frequency: np.ndarray) -> None:
        """Draw the parameters; initial predictions are close to the gene frequencies."""
        self.encoder.reset(rng, embedding, n_latents)
        self.decoder.reset(rng, embedding.shape[1], len(frequency))
        self.decoder.kernel[...] = as_float(embedding.T / embedding.shape[1])
        self.decoder.bias[...] = as_float(np.log(frequency))

    def __call__(self, x):
        """Array of shape (n_cells, n_genes)."""
        return jax.nn.log_softmax(self.decoder(self.encoder(x)))


def thinned(x, key):
    """Each count kept with probability 1/2 or, in half of the cells, 3/4: binomial draws by counting random bits."""
    keys = jax.random.split(key, 4)
    more = jax.random.bernoulli(keys[0], 0.5, (len(x), 1))
    bits = jax.random.bits(keys[1], x.shape)
    bits = jnp.where(more, bits | jax.random.bits(keys[2], x.shape), bits)
    few = jnp.minimum(x, MAX_EXACT).astype(jnp.uint32)
    mask = jnp.where(few == MAX_EXACT, ~jnp.uint32(0), (jnp.uint32(1) << few) - 1)
    counted = jax.lax.population_count(bits & mask).astype(x.dtype)
    rate = jnp.where(more, 0.75, 0.5)
    normal = jnp.round(x * rate + jnp.sqrt(x * rate * (1 - rate)) * jax.random.normal(keys[3], (len(x), 1)))
    return jnp.where(x > MAX_EXACT, jnp.clip(normal, 0, x), counted)


def objective(model: Denoiser, batch: dict[str, jax.Array], key):
    """Poisson likelihood of the hidden counts, given their number; in validation always the same ones."""
    x = batch["x"]
    shown = thinned(x, jax.random.key(0) if key is None else key)
    hidden = x - shown
    return -(hidden * model(shown)).sum(axis=1), {}


class Denoise(Operator):
    """Expected counts of all genes: the proportions predicted from all counts of a cell, times its total.

    In training the network sees some of a cell's counts and predicts the others, so that noise is not memorised.

    New cells: the trained network.
    """

    name = "denoise"
    inputs: ClassVar = {"x": Input(genes=True, content=("counts",), empty_cells="raise")}
    outputs: ClassVar = {
        "denoised": Output(content="normalized"),
        "history": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True

    def __init__(
        self,
        *,
        n_units: int = 64,
        n_latents: int = 8,
        n_blocks: int = 2,
        target_sum: float | None = None,
        max_epochs: int | None = None,
        patience: int = 5,
        validation: float = 0.1,
        batch_size: int = 128,
        learning_rate: float = 5e-3,
        n_genes: int | None = None,
    ):
        check_above_zero(1 if target_sum is None else target_sum, "target_sum")
        check_fraction(validation, "validation")
        self.n_units, self.n_latents, self.n_blocks, self.target_sum = n_units, n_latents, n_blocks, target_sum
        self.max_epochs, self.patience, self.validation = max_epochs, patience, validation
        self.batch_size, self.learning_rate, self.n_genes = batch_size, learning_rate, n_genes
        check_minimums(self, n_units=N_HEADS, n_latents=1, patience=1, n_blocks=1, max_epochs=1, batch_size=1)
        if n_units % N_HEADS:
            msg = f"n_units={n_units} must be a multiple of {N_HEADS}, the number of heads."
            raise ValueError(msg)
        self.network = Denoiser(n_blocks=n_blocks)

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Draw the parameters and train them until held-out cells are no longer predicted better."""
        self.n_genes = x.n_columns
        start = count_profile(x, np.zeros(x.n_rows, np.int32), 1)
        rng = np.random.default_rng(seed)
        embedding = gene_embedding(x, self.n_units, rng)
        self.network.reset(rng, embedding, self.n_latents, start.frequency[0])
        epochs = default_epochs(x.n_rows) if self.max_epochs is None else self.max_epochs
        how = Training(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            validation=self.validation,
            patience=self.patience,
            schedules={"learning_rate": lambda done: rise_and_fall(done, epochs)},
        )
        history = train(self.network, objective, Minibatches({"x": x}), how, seed=seed, progress=progress)
        self.trace = Constant(as_float([history["loss"], history["validation_loss"]]))

    def __call__(self, x):
        """Expected counts, or proportions times ``target_sum``; an array of shape (n_cells, n_genes)."""
        total = x.sum(axis=1, keepdims=True) if self.target_sum is None else self.target_sum
        return {"denoised": total * jnp.exp(self.network(x))}

    def loss(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]):
        """Poisson negative log-likelihood of each cell's counts around ``outputs["denoised"]``, in nats."""
        x, denoised = inputs["x"], outputs["denoised"]
        share = denoised / denoised.sum(axis=1, keepdims=True)
        log_mean = jnp.log(share) + jnp.log(x.sum(axis=1, keepdims=True))
        return (log_factorial(x) - poisson_kernel(x, log_mean)).sum(axis=1)

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Negative log-likelihood of the hidden counts, arrays of shape (n_epochs,), in nats per cell."""
        return dict(zip(("loss", "validation_loss"), np.asarray(self.trace[...]), strict=True))


def gene_embedding(x: RowBlocks, n_units: int, rng: np.random.Generator) -> np.ndarray:
    """Principal axes of log expression and, in the remaining columns, noise: an array of shape (n_genes, n_units)."""
    sample = np.sort(rng.choice(x.n_rows, min(SAMPLE, x.n_rows), replace=False))
    n_axes = min(N_AXES, n_units, len(sample) - 1, x.n_columns - 1)
    embedding = rng.normal(0, 0.3, (x.n_columns, n_units))
    if n_axes > 0:
        axes = principal_axes(RowBlocks(unit_log(x.rows(sample))), n_axes)
        embedding[:, :n_axes] = axes.directions * np.sqrt(x.n_columns)
    return embedding


def default_epochs(n_cells: int) -> int:
    """30 epochs, or 2,500 steps of the default minibatch size if that is fewer, but at least 10 epochs."""
    return int(np.clip(2500 * 128 // n_cells, 10, 30))


def rise_and_fall(epochs_done: np.ndarray, epochs: int) -> np.ndarray:
    """Factor of the learning rate: a rise over the first two epochs (or tenth of all), then a cosine to zero."""
    rise = np.minimum(epochs_done / min(2, epochs / 10) + 0.02, 1)
    return rise * (0.5 * (1 + np.cos(np.pi * epochs_done / epochs)) + 1e-3)
