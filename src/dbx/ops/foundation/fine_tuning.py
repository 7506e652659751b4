"""Training the network further to tell labels apart, at a tenth of the rate of the head."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.losses.labels import cross_entropy
from dbx.ops.annotation.held_out import held_out_rows
from dbx.ops.arrays import balanced_weights
from dbx.ops.foundation.classifier import Classifier
from dbx.ops.foundation.masking import hidden_genes
from dbx.ops.foundation.network import Network
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Progress

ENCODER_RATE = 0.1
EPOCHS, PATIENCE, BATCH_SIZE = 40, 8, 32
HELD_OUT = 0.2
FEWEST = 4
"""Labelled cells of each class from which some are held out to judge a fine-tuning."""


class Tuned(nnx.Module):
    """A network whose parameters move a tenth as far as their steps, and a classifier."""

    def __init__(self, network: Network, classifier: Classifier):
        self.network, self.classifier = network, classifier
        before = jax.tree.leaves(nnx.state(network, nnx.Param))
        self.base = nnx.List([Base(jnp.array(x)) for x in before])

    def moved(self) -> Network:
        """The network as it is applied."""
        graphdef, *states = nnx.split(self.network, nnx.Param, ...)
        parameters, rest = states
        leaves, tree = jax.tree.flatten(parameters)
        shifted = [b[...] + ENCODER_RATE * (p - b[...]) for p, b in zip(leaves, self.base, strict=True)]
        return nnx.merge(graphdef, jax.tree.unflatten(tree, shifted), rest)


class Base(nnx.Variable):
    """A parameter before the training."""


def objective(model: Tuned, batch: dict[str, jax.Array], key):
    """Weighted cross-entropy of each labelled cell; in training some of its genes are hidden."""
    x, network = batch["x"], model.moved()
    shown = 1 - batch["mask"] if "mask" in batch else jnp.ones_like(x)
    if key is not None:
        shown = shown * (1 - hidden_genes(key, x.shape, (0.0, 0.5)))
    logits = model.classifier(network(x, shown, key), network.signals(x, shown))
    return batch["weight"] * cross_entropy(logits, batch["label"]), {}


def fine_tune(
    network: Network,
    classifier: Classifier,
    x: RowBlocks,
    shown: RowBlocks | None,
    codes: np.ndarray,
    features: np.ndarray,
    *,
    learning_rate: float,
    seed: int,
    progress: Progress,
) -> dict[str, np.ndarray] | None:
    """Train both on labelled cells, in place, if that tells held-out ones apart better; None if too few to judge.

    ``features`` are those of the labelled cells before.
    """
    held_out = held_out_rows(codes, HELD_OUT, np.random.default_rng(seed), fewest=FEWEST)
    if not len(held_out):
        return None
    rest = np.setdiff1d(np.arange(len(codes)), held_out)
    classifier.regress(features[rest], codes[rest])
    columns: dict[str, Any] = {"x": x, "label": codes, "weight": balanced_weights(codes).astype(np.float32)}
    if shown is not None:
        columns["mask"] = shown
    model = Tuned(network, classifier)
    how = Training(epochs=EPOCHS, batch_size=BATCH_SIZE, learning_rate=learning_rate, patience=PATIENCE)
    history = train(model, objective, Minibatches(columns), how, held_out=held_out, seed=seed, progress=progress)
    moved = nnx.state(model.moved(), nnx.Param)
    nnx.update(network, moved)
    return history
