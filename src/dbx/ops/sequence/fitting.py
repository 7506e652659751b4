"""Training of networks on sequences: masked pre-training, labels, and axes of the embedding without labels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.minibatches import Minibatches
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Progress
from dbx.ops.sequence.ensemble import each
from dbx.ops.sequence.network import SequenceNetwork
from dbx.ops.sequence.objectives import classification, masked_bases
from dbx.ops.sequence.sequences import soft_of
from dbx.ops.sequence.verdict import is_kept, judged

PRETRAIN_STEPS, TRAIN_STEPS = 800, 400
"""Steps at which the default number of epochs aims."""
PATIENCE = 4
AVERAGING = 0.98
"""Parameters are averaged over about the last fifty steps."""
WEIGHT_DECAY = 1e-3
ROWS_AT_ONCE = 512
ENOUGH = 4000
"""Sequences whose principal axes are computed."""


@dataclass(frozen=True)
class How:
    """Settings of a training."""

    batch_size: int
    learning_rate: float
    seed: int
    progress: Progress


@dataclass(frozen=True)
class Labelled:
    """Rows with a label: sequences, codes, weights of rows, logits known before, and which are held out."""

    sequences: np.ndarray
    codes: np.ndarray
    weights: np.ndarray
    offset: np.ndarray
    held_out: np.ndarray


def default_epochs(n_rows: int, batch_size: int, steps: int, least: int = 8, most: int = 60) -> int:
    """Epochs of about so many steps in all."""
    return int(np.clip(round(steps / -(-n_rows // batch_size)), least, most))


class Cosine:
    """Factor of the learning rate: a rise over a twentieth of the epochs, then half a wave down to 0.01."""

    def __init__(self, epochs: int):
        self.epochs = epochs

    def __call__(self, epochs_done: np.ndarray) -> np.ndarray:
        done = epochs_done / self.epochs
        return np.minimum((done + 1e-3) / 0.05, 1) * np.maximum((1 + np.cos(np.pi * np.minimum(done, 1))) / 2, 0.01)


def pretrain(network: SequenceNetwork, sequences: np.ndarray, epochs: int, mask_rate: float, how: How) -> np.ndarray:
    """Learn to predict hidden bases; loss and accuracy of each epoch, an array of shape (2, n_epochs)."""
    rate = np.float32(mask_rate)
    history = train(
        network,
        masked_bases,
        Minibatches({"sequences": sequences}),
        Training(
            epochs=epochs,
            batch_size=how.batch_size,
            learning_rate=how.learning_rate,
            averaging=AVERAGING,
            schedules={"learning_rate": Cosine(epochs), "mask_rate": lambda done: np.full_like(done, rate)},
        ),
        seed=how.seed,
        progress=how.progress,
    )
    return np.stack([history["loss"], history["masked_accuracy"]])


def train_labels(
    network: SequenceNetwork, rows: Labelled, epochs: int, how: How, *, head_only: bool = False
) -> dict[str, np.ndarray]:
    """Learn labels beside what is known before; the head goes back to zero where held-out rows gain nothing sure."""
    columns = {
        "sequences": rows.sequences,
        "label": rows.codes.astype(np.int32),
        "weight": rows.weights.astype(np.float32),
        "offset": rows.offset.astype(np.float32),
    }
    history = train(
        network,
        classification,
        Minibatches(columns),
        Training(
            epochs=epochs,
            batch_size=how.batch_size,
            learning_rate=how.learning_rate,
            weight_decay=WEIGHT_DECAY,
            averaging=AVERAGING,
            patience=PATIENCE if len(rows.held_out) else None,
            schedules={"learning_rate": Cosine(epochs)},
        ),
        trainable=nnx.All(nnx.Param, nnx.PathContains("classify")) if head_only else nnx.Param,
        held_out=rows.held_out,
        seed=how.seed,
        progress=how.progress,
    )
    if len(rows.held_out) and rows.offset.any() and not _gains(network, rows):
        kernel, bias = network.classify.kernel[...], network.classify.bias[...]
        network.classify.kernel, network.classify.bias = nnx.Param(0 * kernel), nnx.Param(0 * bias)
    return history


def _gains(network: SequenceNetwork, rows: Labelled) -> bool:
    """Whether held-out rows are predicted better with the network's part than without it."""
    part = rows.held_out
    offset, codes = rows.offset[part], rows.codes[part]
    before = _losses(offset, codes) * rows.weights[part]
    return is_kept(judged(before, on_held_out(network, rows)[0], offset.argmax(axis=1) != codes))


def on_held_out(network: SequenceNetwork, rows: Labelled) -> tuple[np.ndarray, np.ndarray]:
    """Weighted loss of each held-out row, by the mean logits of all members, and whether it is misclassified."""
    part = rows.held_out
    logits = rows.offset[part] + logits_of(network, rows.sequences[part]).mean(axis=0)
    wrong = logits.argmax(axis=1) != rows.codes[part]
    return _losses(logits, rows.codes[part]) * rows.weights[part], wrong


def _losses(logits: np.ndarray, codes: np.ndarray) -> np.ndarray:
    logs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return -logs[np.arange(len(codes)), codes]


def logits_of(network: SequenceNetwork, sequences: np.ndarray) -> np.ndarray:
    """Array of shape (n_members, n_sequences, n_classes)."""
    return _by_blocks(network, "classes", sequences)


def set_axes(network: SequenceNetwork, sequences: np.ndarray, n_dims: int) -> None:
    """Project on the principal axes of the features of these sequences, or as many as are enough, in place."""
    pooled = _by_blocks(network, "pooled", sequences[:: -(-len(sequences) // ENOUGH)])
    mean = pooled.mean(axis=1, keepdims=True)
    _, values, axes = np.linalg.svd(pooled - mean, full_matrices=False)
    kernel = np.zeros((len(pooled), pooled.shape[2], n_dims), np.float32)
    some = min(n_dims, axes.shape[1])
    kernel[:, :, :some] = axes[:, :some].swapaxes(1, 2)
    scale = np.maximum(values[:, :1] / np.sqrt(pooled.shape[1]), 1e-6)[:, None]
    kernel /= scale
    network.project.kernel = nnx.Param(jnp.asarray(kernel))
    network.project.bias = nnx.Param(jnp.asarray(-(mean @ kernel)[:, 0]))


def _by_blocks(network: SequenceNetwork, method: str, sequences: np.ndarray) -> np.ndarray:
    graphdef, state = nnx.split(network)
    found = []
    for start in range(0, len(sequences), ROWS_AT_ONCE):
        part = sequences[start : start + ROWS_AT_ONCE]
        missing = min(ROWS_AT_ONCE, 1 << (len(sequences) - 1).bit_length()) - len(part)
        padded = np.concatenate([part, np.repeat(part[:1], missing, axis=0)])
        found.append(np.asarray(_called(graphdef, method, state, padded))[:, : len(part)])
    return np.concatenate(found, axis=1)


@partial(jax.jit, static_argnums=(0, 1))
def _called(graphdef, method: str, state, sequences) -> Any:
    soft, mask = soft_of(sequences, jnp.float32)
    return each(nnx.merge(graphdef, state), lambda member, _: getattr(member, method)(soft, mask))
