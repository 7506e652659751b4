"""New batches for a trained model of counts: their columns are trained, everything else is frozen."""

from __future__ import annotations

import jax
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.losses.latent import normal_kl
from dbx.ops.arrays import as_float
from dbx.ops.counts.count_vae import CountVAE
from dbx.ops.nn.draws import drawn
from dbx.ops.nn.mlp import Linear
from dbx.ops.nn.training import Training, train

LEARNING_RATE = 1e-2


class NewBatches(nnx.Module):
    """A trained model with new parameters for new batches."""

    def __init__(self, vae: CountVAE, first: int, n_new: int):
        self.vae, self.first, self.n_new = vae, first, n_new
        self.columns = nnx.List([NewRows(as_float(layer.kernel[...][at : at + n_new])) for layer, at in self.places()])

    def places(self) -> list[tuple[Linear, int]]:
        """(layer, first new row of its kernel) of every layer with the batch among its inputs."""
        encoder = [layer.linear for layer in self.vae.encoder.hidden.layers] if self.vae.encode_batch else []
        decoder = [layer.linear for layer in self.vae.decoder.hidden.layers]
        tops = [
            self.vae.decoder.scale,
            *([self.vae.decoder.inflation] if self.vae.decoder.likelihood == "zinb" else []),
        ]
        return [(layer, row_of(layer, self.vae) + self.first) for layer in (*encoder, *decoder, *tops)]

    def write(self) -> None:
        """Write the columns into the model."""
        for (layer, at), new in zip(self.places(), self.columns, strict=True):
            layer.kernel[...] = layer.kernel[...].at[at : at + self.n_new].set(new.rows[...])


class NewRows(nnx.Module):
    """Rows of one kernel."""

    def __init__(self, rows):
        self.rows = NewRow(rows)


class NewRow(nnx.Variable):
    """The parameters of a new batch."""


def add_batches(vae: CountVAE, x: RowBlocks, codes: np.ndarray, n_new: int, extra, *, epochs: int, seed: int) -> None:
    """Grow the model by ``n_new`` batches, whose codes follow those of the known ones, and train their columns."""
    first, cells = vae.n_batches, np.flatnonzero(codes >= vae.n_batches)
    own = RowBlocks(x.rows(cells), dtype=x.dtype)
    _grow(vae, n_new)
    model = NewBatches(vae, first, n_new)
    data: dict[str, RowBlocks | np.ndarray] = {"x": own, "batch": codes[cells].astype(np.int32)}
    data |= {} if extra is None else {"extra": np.asarray(extra)[cells]}
    how = Training(epochs=epochs, learning_rate=LEARNING_RATE, epsilon=0.01)
    train(model, negative_elbo_of_new, Minibatches(data), how, trainable=NewRow, seed=seed)
    model.write()


def negative_elbo_of_new(model: NewBatches, batch: dict[str, jax.Array], key):
    """The objective of each cell with the new columns; normalisation and dropout as in inference."""
    model.write()
    vae, extra = model.vae, batch.get("extra")
    posterior = vae.posterior(batch["x"], batch["batch"], extra=extra)
    z = drawn(*posterior, key)
    covariates = vae.covariates(batch["batch"], z.dtype, extra)
    return normal_kl(*posterior) - vae.decoder.log_likelihood(batch["x"], z, covariates), {}


def row_of(layer: Linear, vae: CountVAE) -> int:
    """First row of the batches in a layer's kernel: covariates come last, and batches first among them."""
    n_told = vae.decoder.scale.kernel.shape[0] - vae.decoder.hidden.layers[-1].linear.kernel.shape[1]
    return layer.kernel.shape[0] - n_told


def _grow(vae: CountVAE, n_new: int) -> None:
    """Insert rows for the new batches, the mean of the known ones."""
    first = vae.n_batches
    for layer, at in NewBatches(vae, first, 0).places():
        kernel = np.array(layer.kernel[...])
        rows = np.tile(kernel[at - first : at].mean(axis=0), (n_new, 1))
        layer.kernel = nnx.Param(as_float(np.insert(kernel, [at] * n_new, rows, axis=0)))
    if vae.decoder.likelihood != "poisson" and len(vae.decoder.log_theta[...]) > 1:
        theta = np.array(vae.decoder.log_theta[...])
        rows = np.tile(theta.mean(axis=0), (n_new, 1))
        vae.decoder.log_theta = nnx.Param(as_float(np.concatenate([theta, rows])))
    vae.n_batches = first + n_new
