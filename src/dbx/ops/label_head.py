"""Labels from an embedding: the head through which ``dbx.optimize`` trains the steps before it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.losses.objectives import cross_entropy
from dbx.ops.labels import conclusion, known_labels
from dbx.ops.mlp import Linear, as_float
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.settings_checks import check_at_least, check_share
from dbx.ops.training import Training, train
from dbx.ops.values import Codes


class Head(nnx.Module):
    """A linear classifier of standardised coordinates, and what a hidden layer adds to it."""

    def __init__(self):
        self.linear, self.hidden, self.more = Linear(), Linear(), Linear()

    def reset(self, rng: np.random.Generator, centre, spread, n_hidden: int, n_labels: int) -> None:
        """Draw the parameters; ``centre`` and ``spread`` are those of the coordinates, arrays of shape (n_dims,)."""
        n_dims = len(centre)
        self.centre, self.spread = Constant(as_float(centre)), Constant(as_float(spread))
        for layer, n_in, n_out in (
            (self.linear, n_dims, n_labels),
            (self.hidden, n_dims, n_hidden),
            (self.more, n_hidden, n_labels),
        ):
            layer.reset(rng, n_in, n_out)

    def __call__(self, z):
        """Unnormalised log-probabilities, an array of shape (n_cells, n_labels)."""
        z = (z - self.centre[...]) / self.spread[...]
        return self.linear(z) + self.more(jax.nn.gelu(self.hidden(z)))


class LabelHead(Operator):
    """Probabilities of labels from an embedding, by a small network."""

    name = "label_head"
    inputs: ClassVar = {
        "z": Input(),
        "labels": Input(kind="codes", missing=True, unseen="missing", of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "labels": Output(dtype="category"),
        "confidence": Output(),
        "probabilities": Output(),
        "history": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True

    def __init__(
        self,
        *,
        n_hidden: int = 64,
        unlabeled: str = "Unknown",
        max_epochs: int = 150,
        patience: int = 15,
        batch_size: int = 64,
        learning_rate: float = 3e-3,
        min_confidence: float = 0.0,
        classes: tuple[str, ...] = (),
    ):
        for name, value in (("n_hidden", n_hidden), ("max_epochs", max_epochs), ("batch_size", batch_size)):
            check_at_least(value, 1, name)
        check_share(min_confidence, "min_confidence")
        self.n_hidden, self.unlabeled, self.max_epochs, self.patience = n_hidden, unlabeled, max_epochs, patience
        self.batch_size, self.learning_rate, self.min_confidence = batch_size, learning_rate, min_confidence
        self.classes = classes
        self.head = Head()

    def fit(self, *, z: RowBlocks, labels: Codes, seed: int = 0, progress: Progress = silent) -> None:
        """Train until held-out cells are not told better; cells without a label take no part."""
        known, self.classes = known_labels(labels, self.unlabeled)
        self.fit_rows(z.dense(), known, seed=seed, progress=progress)

    def fit_rows(
        self, z: np.ndarray, known: np.ndarray, held_out: np.ndarray | None = None, *, seed: int, progress: Progress
    ) -> None:
        """Train on the rows with a label; ``held_out`` are rows in place of a share drawn at random."""
        rows = np.flatnonzero(known >= 0)
        x = np.ascontiguousarray(z[rows], np.float32)
        spread = x.std(axis=0)
        rng = np.random.default_rng(seed)
        self.head.reset(rng, x.mean(axis=0), np.where(spread > 0, spread, 1), self.n_hidden, len(self.classes))
        how = Training(
            epochs=self.max_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=1e-4,
            validation=0.15,
            patience=self.patience,
        )
        data = Minibatches({"z": x, "label": known[rows]})
        apart = None if held_out is None else np.flatnonzero(np.isin(rows, held_out))
        history = train(self.head, objective, data, how, held_out=apart, seed=seed, progress=progress)
        self.trace = Constant(as_float([history["loss"], history["validation_loss"]]))

    def __call__(self, z, labels=None) -> dict[str, Any]:
        """Labels with their probabilities."""
        del labels
        probabilities = jax.nn.softmax(self.head(z))
        return {**conclusion(probabilities, self.classes, self.min_confidence), "probabilities": probabilities}

    @property
    def history(self) -> Mapping[str, np.ndarray]:
        """Mean cross-entropy in each epoch, arrays of shape (n_epochs,), in nats per cell."""
        return dict(zip(("loss", "validation_loss"), np.asarray(self.trace[...]), strict=True))


def objective(head: Head, batch: dict[str, jax.Array], key):
    """Of each cell, for :func:`dbx.ops.training.train`."""
    del key
    return cross_entropy(head(batch["z"]), batch["label"]), {}
