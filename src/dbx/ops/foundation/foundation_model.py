"""An expression foundation model: cells as sets of genes, trained to predict those that are hidden."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.ops.annotation.labels import known_labels
from dbx.ops.apply import take
from dbx.ops.arrays import as_float
from dbx.ops.checks import check_above_zero, check_at_least, check_fraction, check_known, check_minimums
from dbx.ops.foundation import checkpoint, start
from dbx.ops.foundation.classifier import Classifier
from dbx.ops.foundation.fine_tuning import fine_tune
from dbx.ops.foundation.masking import folds_of_genes
from dbx.ops.foundation.network import Shape, in_groups
from dbx.ops.foundation.objectives import LIKELIHOODS, OBJECTIVES, Masked, Predictor
from dbx.ops.foundation.smoothing import SHARE_EXPECTED, Neighbours
from dbx.ops.foundation.tokens import SAMPLINGS
from dbx.ops.foundation.values import VALUES
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Codes

ATTENTIONS = ("full", "linear", "induced")
VALIDATION = 0.1
AVERAGING = 0.98
"""Decay at each step of the mean of parameters that is kept: single steps follow their minibatch."""
STEPS, FEWEST_EPOCHS, MOST_EPOCHS = 800, 5, 60
"""Steps of the default number of epochs, and its limits."""


class FoundationModel(Operator):
    """A set transformer of counts, trained to predict genes that are hidden from it, and labels from its cells.

    Trained are the network and, with labels, a penalised regression on the vector of a cell beside its values. It works
    on each cell alone, without its batch: only the head of the pre-training knows batches. Expected counts are of each
    gene given the others: hidden ones (``mask``) from all that are shown, and these a part of the genes at a time.

    New cells: the trained network; existing labels and batches are not used.
    """

    name = "foundation_model"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",), empty_cells="raise", least_known=0.5),
        "mask": Input(genes=True, optional=True),
        "labels": Input(kind="codes", missing=True, unseen="missing", optional=True, of_fitted_cells=True),
        "batch": Input(kind="codes", unseen="missing", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "z": Output(content="embedding"),
        "genes": Output(axis="genes", view=True),
        "history": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True
    unlisted = frozenset({"gene_rows", "classes", "n_batches", "labelled"})

    def __init__(
        self,
        *,
        values: str = "count",
        objective: str = "value",
        likelihood: str = "nb",
        max_length: int = 1024,
        sampling: str = "expressed",
        n_layers: int = 3,
        n_hidden: int = 128,
        n_heads: int = 4,
        attention: str = "induced",
        n_induced: int = 32,
        mask_rate: float = 0.15,
        mask_rate_range: tuple[float, float] | None = (0.1, 0.6),
        pretrain: bool = True,
        finetune: bool = True,
        freeze_encoder: bool = False,
        pooling: str = "cls",
        contrastive_weight: float = 0.0,
        max_epochs: int | None = None,
        batch_size: int = 64,
        learning_rate: float = 5e-3,
        weights: str | None = None,
        gene_rows: tuple[int, ...] = (),
        expected: bool = False,
        labelled: bool = False,
        unlabeled: str | float | bool | None = "Unknown",
        classes: tuple[str, ...] = (),
    ):
        check_known(values, VALUES, "values")
        check_known(objective, OBJECTIVES, "objective")
        check_known(likelihood, LIKELIHOODS, "likelihood")
        check_known(sampling, SAMPLINGS, "sampling")
        check_known(attention, ATTENTIONS, "attention")
        check_known(pooling, ("cls", "mean"), "pooling")
        check_fraction(mask_rate, "mask_rate")
        check_above_zero(learning_rate, "learning_rate")
        check_at_least(contrastive_weight, 0, "contrastive_weight")
        self.values, self.objective, self.likelihood = values, objective, likelihood
        self.max_length, self.sampling = max_length, sampling
        self.n_layers, self.n_hidden, self.n_heads = n_layers, n_hidden, n_heads
        self.attention, self.n_induced = attention, n_induced
        self.mask_rate, self.mask_rate_range, self.pooling = mask_rate, mask_rate_range, pooling
        self.pretrain, self.finetune, self.freeze_encoder = pretrain, finetune, freeze_encoder
        self.contrastive_weight, self.max_epochs = contrastive_weight, max_epochs
        self.batch_size, self.learning_rate = batch_size, learning_rate
        self.weights, self.gene_rows, self.expected = weights, gene_rows, expected
        self.labelled, self.unlabeled, self.classes = labelled, unlabeled, classes
        check_minimums(self, max_length=2, n_layers=1, n_hidden=1, n_heads=1, n_induced=1, max_epochs=1, batch_size=2)
        _check_settings(self)
        shape = Shape(values, sampling, max_length, n_layers, n_hidden, n_heads, attention, n_induced, pooling)
        self.model = Predictor(shape, likelihood, objective)
        if labelled:
            self.classifier = Classifier()
        if expected:
            self.similar = Neighbours()

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[FoundationModel]:
        """Labels and expected counts are outputs only with labels, and if they are asked for.

        Expected counts of a fitted cell are from others, so that its number is read as well.
        """
        return _with_outputs(bool(config.get("labelled")), bool(config.get("expected")))

    def fit(
        self,
        *,
        x: RowBlocks,
        mask: RowBlocks | None = None,
        labels: Codes | None = None,
        batch: Codes | None = None,
        rows: np.ndarray | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Pre-train on all cells, from a file or from gene frequencies, then fit the classifier and train further."""
        known = None
        if labels is not None:
            known, self.classes = known_labels(labels, self.unlabeled)
        codes = np.zeros(x.n_rows, np.int32) if batch is None else np.asarray(batch.codes, np.int32)
        rng = np.random.default_rng(seed)
        similar = start.reset(self.model, x, codes, 1 if batch is None else batch.n_levels, rng, mask)
        similar = None if self.likelihood == "gaussian" else similar
        if self.expected and similar is not None:
            self.similar.reset(similar)
        if self.weights is not None:
            checkpoint.load(self.weights, self.model, np.asarray(self.gene_rows, np.int64))
        found = {}
        if self.pretrain:
            near = None if similar is None else similar.smoothed(codes)
            found = self._pretrained(x, mask, codes, near, seed, progress)
        if known is not None:
            found |= self._classified(x, mask, known, seed, progress)
        self.trace = Constant(as_float(_joined(found)))

    def _pretrained(self, x, mask, codes, near, seed: int, progress: Progress) -> dict[str, np.ndarray]:
        optional = {"mask": mask, "near": near}
        columns: dict[str, Any] = {"x": x, "batch": codes} | {k: v for k, v in optional.items() if v is not None}
        epochs = default_epochs(x.n_rows, self.batch_size) if self.max_epochs is None else self.max_epochs
        how = Training(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            validation=VALIDATION,
            averaging=AVERAGING,
            schedules={"learning_rate": lambda done: rise_and_fall(done, epochs)},
        )
        rates = self.mask_rate_range
        loss = Masked(self.mask_rate, None if rates is None else (rates[0], rates[1]), self.contrastive_weight)
        history = train(self.model, loss, Minibatches(columns), how, seed=seed, progress=progress)
        return {name: history[name] for name in _curves(self.objective)}

    def _classified(self, x, mask, known, seed: int, progress: Progress) -> dict[str, np.ndarray]:
        """Fit the classifier, on a network that was trained further if that tells held-out cells apart better."""
        rows = np.flatnonzero(known >= 0)
        own, hidden, codes = take(x, rows), None if mask is None else take(mask, rows), known[rows]
        found: dict[str, np.ndarray] = {}
        every = self._features(x, mask)
        self.classifier.reset(every, self.n_hidden, len(self.classes))
        if not self.freeze_encoder:
            history = fine_tune(
                self.model.network,
                self.classifier,
                own,
                hidden,
                codes,
                every[rows],
                learning_rate=self.learning_rate / 5,
                seed=seed,
                progress=progress,
            )
            if history is not None:
                if history.pop("kept")[0]:
                    every = self._features(x, mask)
                    self.classifier.reset(every, self.n_hidden, len(self.classes))
                found = {f"finetune_{name}": values for name, values in history.items()}
        self.classifier.regress(every[rows], codes)
        return found

    def _features(self, x: RowBlocks, mask: RowBlocks | None) -> np.ndarray:
        """Vectors of all cells beside their signals, an array of shape (n_cells, n_hidden + n_genes)."""
        graphdef, state = nnx.split(self.model.network)
        parts = []
        for block in x:
            shown = np.ones(block.rows.shape, np.float32)
            n = block.stop - block.start
            if mask is not None:
                shown[:n] -= mask.dense(slice(block.start, block.stop))
            parts.append(np.asarray(_features(graphdef, state, block.rows, shown))[:n])
        return np.concatenate(parts)

    def __call__(self, x, mask=None, labels=None, batch=None, rows=None) -> dict[str, Any]:
        """Vectors of cells and, where they are asked for, labels and expected counts."""
        del labels, batch
        shown = jnp.ones_like(x) if mask is None else (mask < 0.5).astype(x.dtype)
        outputs: dict[str, Any] = {"z": in_groups(self.model.network, x, shown)}
        if self.labelled:
            logits = self.classifier(outputs["z"], self.model.network.signals(x, shown))
            outputs["labels"] = Codes(logits.argmax(axis=1).astype(jnp.int32), self.classes)
            outputs["probabilities"] = jax.nn.softmax(logits)
        if self.expected:
            outputs["expected"] = in_groups(self._expected, x, shown, rows)
        return outputs

    def _expected(self, x, shown, rows):
        """Each gene from the others: hidden ones from all that are shown, these in folds of genes."""
        folds = folds_of_genes(x.shape[1], self.mask_rate)

        def one(found, fold):
            left = jnp.where(folds == fold, 0, shown)
            here = jnp.where(fold < 0, 1 - shown, (folds == fold) * shown)
            return jnp.where(here > 0, self._expected_from(x, left, rows), found), None

        return jax.lax.scan(one, jnp.zeros_like(x), jnp.arange(-1, folds.max() + 1, dtype=jnp.int32))[0]

    def _expected_from(self, x, left, rows):
        """All genes from those that are left, by the network and, where there are few cells, by their neighbours."""
        network = self.model.network
        found = self.model.expected(network(x, left), network.depth(x, left))
        if not hasattr(self.similar, "points"):
            return found
        near = self.similar(network.signals(x, left), x, left, rows)
        return (1 - SHARE_EXPECTED) * found + SHARE_EXPECTED * near

    @property
    def genes(self) -> Any:
        """Embeddings of genes, an array of shape (n_genes, n_hidden)."""
        return self.model.network.gene_embedding[...]

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Means over each epoch, in nats for a hidden gene (or, of fine-tuning, for a cell)."""
        names = _curves(self.objective) if self.pretrain else ()
        trace = np.asarray(self.trace[...])
        names = (*names, "finetune_loss", "finetune_validation_loss") if len(trace) > len(names) else names
        return {name: values[np.isfinite(values)] for name, values in zip(names, trace, strict=True)}


def _curves(objective: str) -> tuple[str, ...]:
    terms = {"value": ("value",), "rank": ("rank",), "both": ("value", "rank")}[objective]
    return ("loss", *terms, "validation_loss")


def _joined(curves: Mapping[str, np.ndarray]) -> np.ndarray:
    """Curves as rows, NaN where one is shorter."""
    width = max((len(values) for values in curves.values()), default=0)
    rows = [np.append(values, np.full(width - len(values), np.nan)) for values in curves.values()]
    return np.array(rows).reshape(len(rows), width)


def _check_settings(operator: FoundationModel) -> None:
    """Refuse settings that contradict each other."""
    given = operator.mask_rate_range
    if given is not None and not (len(given) == 2 and 0 < given[0] <= given[1] < 1):
        msg = f"mask_rate_range must be two fractions, the smaller one first; got {given!r}."
        raise ValueError(msg)
    if operator.n_hidden % operator.n_heads:
        msg = f"n_hidden={operator.n_hidden} must be a multiple of n_heads={operator.n_heads}."
        raise ValueError(msg)
    if operator.expected and operator.objective == "rank":
        msg = 'objective="rank" does not predict counts: use "value" or "both" for expected counts.'
        raise ValueError(msg)
    if not operator.pretrain and operator.weights is None:
        msg = "Nothing would be trained: use pretrain=True, or weights=, a file of save_weights."
        raise ValueError(msg)
    if operator.labelled and not operator.finetune:
        msg = "finetune=False does not use labels: leave labels_key out, or use freeze_encoder=True."
        raise ValueError(msg)


@cache
def _with_outputs(labelled: bool, expected: bool) -> type[FoundationModel]:
    """The class with the outputs that are asked for."""
    if not labelled and not expected:
        return FoundationModel
    inputs, outputs = dict(FoundationModel.inputs), dict(FoundationModel.outputs)
    if labelled:
        outputs |= {"labels": Output(dtype="category"), "probabilities": Output()}
    if expected:
        inputs |= {"rows": Input(kind="rows", of_fitted_cells=True)}
        outputs |= {"expected": Output()}
    body = {"inputs": inputs, "outputs": outputs, "__module__": __name__, "__qualname__": FoundationModel.__qualname__}
    return type(FoundationModel.__name__, (FoundationModel,), body)


def default_epochs(n_cells: int, batch_size: int) -> int:
    """800 steps, but at least 5 and at most 60 epochs."""
    return int(np.clip(STEPS * batch_size // n_cells, FEWEST_EPOCHS, MOST_EPOCHS))


def rise_and_fall(done: np.ndarray, epochs: int) -> np.ndarray:
    """Factor of the learning rate: a rise over the first epochs, then a cosine to zero."""
    return np.minimum(done / min(3, epochs / 10) + 0.02, 1) * (0.5 * (1 + np.cos(np.pi * done / epochs)) + 1e-3)


@partial(jax.jit, static_argnums=0)
def _features(graphdef, state, x, shown):
    network = nnx.merge(graphdef, state)
    return jnp.concatenate([in_groups(network, x, shown), network.signals(x, shown)], axis=1)
