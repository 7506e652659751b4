"""Batch correction by maximum mean discrepancy."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from dbx.losses.mmd import mmd
from dbx.ops.batch.batch_correction import BatchCorrection
from dbx.ops.nn.training import train


class MMD(BatchCorrection):
    """An autoencoder trained for a small maximum mean discrepancy between the batches' latent distributions.

    New cells: the trained encoder, which needs no batch.
    """

    name = "mmd"
    followed: ClassVar = ("loss", "reconstruction", "mmd")

    def _train(self, data, how, rng, seed, progress):
        return train(self.autoencoder, objective, data, how, seed=seed, progress=progress)


def objective(model, batch: dict[str, jax.Array], key, *, strength):
    """Loss of each cell, for :func:`dbx.ops.nn.training.train`; the discrepancy is that of the minibatch."""
    keys = [None] * 2 if key is None else jax.random.split(key)
    z = model.encode(batch["x"], key=keys[0])
    reconstruction = model.reconstruction(batch["x"], z, batch["batch"], key=keys[1])
    discrepancy = mmd(z, model.membership(batch["batch"]), batch.get("weights"))
    discrepancy = jnp.broadcast_to(discrepancy, reconstruction.shape)
    return reconstruction + strength * discrepancy, {"reconstruction": reconstruction, "mmd": discrepancy}
