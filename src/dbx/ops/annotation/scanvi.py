"""Cell types by a semi-supervised variational autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.ops.annotation.labels import conclusion, known_labels, sample_labelled
from dbx.ops.annotation.semi_supervised import LabelledVAE, semi_supervised
from dbx.ops.annotation.thinning import thinned
from dbx.ops.arrays import as_float
from dbx.ops.checks import check_known, check_minimums, check_share
from dbx.ops.counts.count_profile import count_profile
from dbx.ops.counts.count_vae import CountVAE, negative_elbo
from dbx.ops.counts.vae import DROPOUT, LIKELIHOODS
from dbx.ops.nn.epochs import default_epochs
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Codes

HISTORY = ("loss", "reconstruction", "kl", "classification")
MOST_COPIED = 1000
"""Maximum number of labelled cells of each label that are copied."""


class ScANVI(Operator):
    """scANVI: a VAE of counts is trained, then trained further with a latent prior for each label.

    Labelled cells are joined by thinned copies of themselves, so that cells of few counts are recognised as well;
    ``n_copies=0`` is scANVI as published. ``z`` is the posterior mean, and the probabilities are those of the
    classifier there, so they are not random. Cells of an unseen batch are annotated too: only the decoder uses batches.

    New cells: ``method='scanvi'``: the trained networks, at the posterior mean; existing labels are not used.
    """

    name = "scanvi"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",), empty_cells="raise"),
        "labels": Input(kind="codes", missing=True, unseen="missing", of_fitted_cells=True),
        "batch": Input(kind="codes", unseen="missing", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "labels": Output(dtype="category"),
        "confidence": Output(),
        "probabilities": Output(),
        "z": Output(content="embedding"),
        "history": Output(axis="none", dtype=None, view=True),
    }
    result = "labels"
    rowwise = True

    def __init__(
        self,
        *,
        unlabeled: str | float | bool | None = "Unknown",
        likelihood: str = "nb",
        n_latent: int = 10,
        n_hidden: int = 128,
        n_layers: int = 1,
        max_epochs: int | None = None,
        label_epochs: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        classification_ratio: float = 50.0,
        n_copies: int = 2,
        min_confidence: float = 0.5,
        classes: tuple[str, ...] = (),
        n_batches: int = 1,
    ):
        check_known(likelihood, LIKELIHOODS, "likelihood")
        check_share(min_confidence, "min_confidence")
        self.unlabeled, self.likelihood, self.n_latent = unlabeled, likelihood, n_latent
        self.n_hidden, self.n_layers, self.max_epochs, self.label_epochs = n_hidden, n_layers, max_epochs, label_epochs
        self.batch_size, self.learning_rate, self.n_copies = batch_size, learning_rate, n_copies
        self.classification_ratio, self.min_confidence = classification_ratio, min_confidence
        self.classes, self.n_batches = classes, n_batches
        check_minimums(self, n_latent=1, n_hidden=1, n_layers=1, max_epochs=1, label_epochs=1, batch_size=2, n_copies=0)
        self._build()

    def _build(self) -> None:
        vae = CountVAE(
            likelihood=self.likelihood,
            n_latent=self.n_latent,
            n_layers=self.n_layers,
            dropout=DROPOUT,
            encode_batch=False,
            n_batches=self.n_batches,
        )
        self.model = LabelledVAE(
            n_classes=len(self.classes),
            n_layers=self.n_layers,
            dropout=DROPOUT,
            classification=self.classification_ratio,
            vae=vae,
        )

    def fit(
        self, *, x: RowBlocks, labels: Codes, batch: Codes | None = None, seed: int = 0, progress: Progress = silent
    ) -> None:
        """Train the VAE without labels, then all networks with them."""
        known, self.classes = known_labels(labels, self.unlabeled)
        self.n_batches = 1 if batch is None else batch.n_levels
        self._build()
        rng = np.random.default_rng(seed)
        codes = np.zeros(x.n_rows, np.int32) if batch is None else np.asarray(batch.codes, np.int32)
        start = count_profile(x, codes, self.n_batches)
        share = np.bincount(known[known >= 0], minlength=len(self.classes))
        self.model.reset(rng, start, self.n_hidden, share / share.sum())
        data = self._with_copies(x, codes, known, rng)
        epochs = passes(x.n_rows, data.n_rows) if self.max_epochs is None else self.max_epochs
        more = self.label_epochs
        if more is None:  # of the passes without copies: the labels need all of them, the VAE does not
            more = max((epochs if self.max_epochs else passes(x.n_rows, x.n_rows)) // 4, 1)
        first = train(
            self.model.vae, negative_elbo, data, self._how(epochs, WarmUp(epochs)), seed=seed, progress=progress
        )
        then = train(self.model, semi_supervised, data, self._how(more, np.ones_like), seed=seed + 1, progress=progress)
        first["classification"] = np.full(epochs, np.nan)
        trace = [np.concatenate([first[name], then[name]]) for name in HISTORY]
        self.trace = Constant(as_float(trace))

    def _how(self, epochs: int, weight) -> Training:
        return Training(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            epsilon=0.01,
            weight_decay=1e-6,
            schedules={"kl_weight": weight},
        )

    def _with_copies(self, x: RowBlocks, codes, known, rng) -> Minibatches:
        """All cells, then the thinned copies of labelled ones."""
        chosen = sample_labelled(known, MOST_COPIED, rng)
        rows = np.concatenate([np.arange(x.n_rows), np.tile(chosen, self.n_copies)])
        if self.n_copies:
            part = sparse.csr_matrix(x.rows(chosen), dtype=np.float32)
            copies = [thinned(part, rng) for _ in range(self.n_copies)]
            x = RowBlocks(sparse.vstack([sparse.csr_matrix(x.rows(slice(None))), *copies], format="csr"))
        known = known[rows]
        importance = np.where(known >= 0, len(known) / (known >= 0).sum(), 0).astype(np.float32)
        return Minibatches({"x": x, "batch": codes[rows], "label": known, "importance": importance})

    def __call__(self, x, labels=None, batch=None) -> dict[str, Any]:
        """Posterior means, and the classifier's probabilities there."""
        del labels, batch
        z, _ = self.model.vae.encoder(x)
        probabilities = jnp.exp(self.model.classify(z))
        return {**conclusion(probabilities, self.classes, self.min_confidence), "probabilities": probabilities, "z": z}

    @property
    def history(self) -> Mapping[str, np.ndarray]:
        """Means over cells and copies in each epoch, of shape (n_epochs,); classification is NaN without labels."""
        return dict(zip(HISTORY, np.asarray(self.trace[...]), strict=True))


def passes(n_cells: int, n_rows: int) -> int:
    """Passes over cells and copies: as many minibatches as half of scVI's passes over the cells alone."""
    return max(round(default_epochs(n_cells) // 2 * n_cells / n_rows), 1)


class WarmUp:
    """Weight of the divergence, which rises to 1 over a number of epochs."""

    def __init__(self, epochs: int):
        self.epochs = epochs

    def __call__(self, epochs_done: np.ndarray) -> np.ndarray:
        return np.minimum(np.floor(epochs_done) / self.epochs, 1)
