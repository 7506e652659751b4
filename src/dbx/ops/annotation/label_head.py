"""Labels from an embedding: the head for ``dbx.optimize`` with labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.losses.labels import cross_entropy
from dbx.ops.annotation.labels import conclusion, known_labels
from dbx.ops.arrays import as_float
from dbx.ops.checks import check_minimums, check_share
from dbx.ops.nn.epochs import default_batch_size
from dbx.ops.nn.mlp import Linear
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Codes


class Head(nnx.Module):
    """Multinomial logistic regression on standardised coordinates.

    Linear, so that the gain of training the steps before it is in the coordinates themselves. The weight of a label is
    the inverse square root of its number of cells, between equal weights of cells and of labels.
    """

    def __init__(self):
        self.linear = Linear()

    def reset(self, rng: np.random.Generator, z: np.ndarray, codes: np.ndarray, n_labels: int) -> None:
        """Initialise for coordinates of shape (n_cells, n_dims) and the codes of their labels."""
        spread = z.std(axis=0)
        self.centre, self.spread = Constant(as_float(z.mean(axis=0))), Constant(as_float(np.where(spread, spread, 1)))
        counts = np.maximum(np.bincount(codes, minlength=n_labels), 1)
        weight = counts**-0.5
        self.weight = Constant(as_float(weight / weight[codes].mean()))
        self.linear.reset(rng, z.shape[1], n_labels)

    def __call__(self, z):
        """Unnormalised log-probabilities, an array of shape (n_cells, n_labels)."""
        return self.linear((z - self.centre[...]) / self.spread[...])

    def loss(self, z, codes):
        """Weighted cross-entropy of each cell."""
        return self.weight[...][jnp.maximum(codes, 0)] * cross_entropy(self(z), codes)


class LabelHead(Operator):
    """Probabilities of labels from an embedding: multinomial logistic regression, trained in minibatches.

    New cells: its coefficients.
    """

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
    role = "head"

    def __init__(
        self,
        *,
        unlabeled: str | float | bool | None = "Unknown",
        max_epochs: int = 200,
        patience: int = 15,
        batch_size: int | None = None,
        learning_rate: float = 1e-2,
        min_confidence: float = 0.0,
        classes: tuple[str, ...] = (),
    ):
        check_share(min_confidence, "min_confidence")
        self.unlabeled, self.max_epochs, self.patience = unlabeled, max_epochs, patience
        self.batch_size, self.learning_rate, self.min_confidence = batch_size, learning_rate, min_confidence
        self.classes = classes
        check_minimums(self, max_epochs=1, patience=1, batch_size=1)
        self.head = Head()

    def fit(self, *, z: RowBlocks, labels: Codes, seed: int = 0, progress: Progress = silent) -> None:
        """Train until held-out cells are no longer classified better; cells without a label are left out."""
        known, self.classes = known_labels(labels, self.unlabeled)
        self.fit_rows(z.dense(), known, seed=seed, progress=progress)

    def fit_rows(
        self, z: np.ndarray, known: np.ndarray, held_out: np.ndarray | None = None, *, seed: int, progress: Progress
    ) -> None:
        """Train on the rows with a label; ``held_out`` are rows instead of a fraction drawn at random."""
        rows = np.flatnonzero(known >= 0)
        x = np.ascontiguousarray(z[rows], np.float32)
        self.head.reset(np.random.default_rng(seed), x, known[rows], len(self.classes))
        how = Training(
            epochs=self.max_epochs,
            batch_size=default_batch_size(len(rows)) if self.batch_size is None else self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=1e-4,
            validation=0.15,
            patience=self.patience,
        )
        data = Minibatches({"z": x, "label": known[rows]})
        validation = None if held_out is None else np.flatnonzero(np.isin(rows, held_out))
        history = train(self.head, objective, data, how, held_out=validation, seed=seed, progress=progress)
        self.trace = Constant(as_float([history["loss"], history["validation_loss"]]))

    def __call__(self, z, labels=None) -> dict[str, Any]:
        """Labels with their probabilities."""
        del labels
        probabilities = jax.nn.softmax(self.head(z))
        return {**conclusion(probabilities, self.classes, self.min_confidence), "probabilities": probabilities}

    @property
    def history(self) -> Mapping[str, np.ndarray]:
        """Mean weighted cross-entropy in each epoch, arrays of shape (n_epochs,), in nats per cell."""
        return dict(zip(("loss", "validation_loss"), np.asarray(self.trace[...]), strict=True))


def objective(head: Head, batch: dict[str, jax.Array], key):
    """Loss of each cell, for :func:`dbx.ops.nn.training.train`."""
    del key
    return head.loss(batch["z"], batch["label"]), {}
