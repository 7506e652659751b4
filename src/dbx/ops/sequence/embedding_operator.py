"""What the encoders of sequences share: input, fit, embedding, and classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx._warnings import warn
from dbx.ops.annotation.labels import known_labels
from dbx.ops.arrays import as_float
from dbx.ops.nn.mlp import Linear
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.sequence.batches import codes_of_bases, of_length, outputs_of
from dbx.ops.sequence.convolution import ConvolutionalEncoder
from dbx.ops.sequence.ensemble import each, stack
from dbx.ops.sequence.fitting import (
    PRETRAIN_STEPS,
    TRAIN_STEPS,
    How,
    Labelled,
    default_epochs,
    pretrain,
    set_axes,
    train_labels,
)
from dbx.ops.sequence.groups import folds_of, overlap_groups
from dbx.ops.sequence.network import SequenceNetwork, reverse_complement
from dbx.ops.sequence.pooling import Pooling
from dbx.ops.sequence.regression import Problem, fit_words, row_weights
from dbx.ops.sequence.sequences import checked, cut, in_graph, lengths, soft_of
from dbx.ops.sequence.settings import check_settings
from dbx.ops.sequence.transformer import TransformerEncoder
from dbx.ops.sequence.weights import check_vocabulary, start_from
from dbx.ops.sequence.words import by_place, n_words, word_channels, word_table
from dbx.ops.values import Codes

PoolingSetting = Literal["auto", "mean", "max", "cls", "attention", "position"]
N_FOLDS = 4


class ForFit:
    """Weights to start from, and other sequences for pre-training, for one fit only and not in the state.

    No tuple or dict, which flax would take for parts of the state; all are equal, as for compiled code.
    """

    def __init__(self) -> None:
        self.weights: tuple[Mapping[str, np.ndarray], Mapping[str, Any], str] | None = None
        self.elsewhere: tuple[Any, Any] | None = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ForFit)

    def __hash__(self) -> int:
        return 0


class SequenceOperator(Operator):
    """A network on sequences beside a regression on their words; a subclass makes the encoder."""

    inputs: ClassVar = {
        "text": Input(kind="text", optional=True),
        "x": Input(kind="tensor", optional=True),
        "labels": Input(kind="codes", missing=True, unseen="missing", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "z": Output(content="embedding"),
        "labels": Output(dtype="category"),
        "probabilities": Output(),
        "history": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True
    unlisted = frozenset({"length", "by_position", "started", "classes"})

    alphabet: str
    tokens: str = "base"
    k: int = 6
    max_length: int | None
    words: int
    embedding_dim: int
    n_layers: int
    n_heads: int
    n_hidden: int
    dropout: float
    pooling: str
    reverse_complement: bool
    unlabeled: Any
    batch_size: int
    pretrain_epochs: int | None
    mask_rate: float
    max_epochs: int | None
    freeze_encoder: bool
    ensemble: int
    class_weight: str | None
    learning_rate: float
    validation: float
    length: int
    by_position: bool
    started: bool
    classes: tuple[str, ...]

    def _check(self) -> None:
        check_settings(self)
        self._build()

    def _encoder(self) -> ConvolutionalEncoder | TransformerEncoder:
        raise NotImplementedError

    @property
    def _k(self) -> int | None:
        return self.k if self.tokens == "kmer" else None

    @property
    def _pooling(self) -> Any:
        if self.pooling != "auto":
            return self.pooling
        return "position" if self.by_position else "attention_max"

    @property
    def _fixed(self) -> bool:
        """Whether every sequence is padded to one length."""
        return self._pooling == "position"

    def _member(self) -> SequenceNetwork:
        length = -(-self.length // (self._k or 1))
        pooling = Pooling(kind=self._pooling, n_heads=self.n_heads, length=length)
        return SequenceNetwork(
            self._encoder(),
            pooling,
            dropout=self.dropout,
            per_token=self._k or 1,
            both_strands=self.reverse_complement,
        )

    def _build(self) -> None:
        self.network = self._member()
        self.regression, self._for_fit = Linear(), ForFit()

    def begin(self, tensors: Mapping[str, np.ndarray], facts: Mapping[str, Any], source: str) -> None:
        """Start the next fit from these weights."""
        self._for_fit.weights, self.started = (tensors, facts, source), True

    def pretrain_on(self, text: Any = None, x: Any = None) -> None:
        """Pre-train on other sequences in the next fit."""
        self._for_fit.elsewhere, self.started = (text, x), True

    def fit(
        self,
        *,
        text: Any = None,
        x: Any = None,
        labels: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Pre-train on all sequences, fit the regression on words, then train the network beside it."""
        values = checked(text, x, self.alphabet, self._k)
        n_there = lengths(values)
        self.length = int(n_there.max() if self.max_length is None else self.max_length)
        equal = len(np.unique(np.minimum(n_there, self.length))) == 1
        self.by_position = self.pooling == "position" or (self.pooling == "auto" and equal)
        known = np.full(len(values), -1, np.int32)
        self.classes = ()
        if labels is not None:
            known, self.classes = known_labels(labels, self.unlabeled)
        values = cut(values, self.length)
        given, self._for_fit = self._for_fit, ForFit()
        if self.started and given.weights is None and given.elsewhere is None:
            msg = (
                "This network started from weights or other sequences, which a program does not keep: call "
                "dbx.tl.sequence_embedding again with weights or pretrain_on."
            )
            raise ValueError(msg)
        hidden_in = values
        if given.elsewhere is not None:
            hidden_in = cut(checked(*given.elsewhere, self.alphabet, self._k), self.length)
        wanted = given.elsewhere is not None or (not self.classes and given.weights is None)
        epochs = default_epochs(len(hidden_in), self.batch_size, PRETRAIN_STEPS) if wanted else 0
        epochs = epochs if self.pretrain_epochs is None else self.pretrain_epochs
        self._check_something_is_learned(epochs, started=given.weights is not None)
        self._reset(np.random.default_rng(seed))
        if given.weights is not None:
            tensors, facts, source = given.weights
            check_vocabulary(facts, self, source)
            start_from(self.network, tensors, source)
        how = How(self.batch_size, self.learning_rate, seed, progress)
        self.pretraining = Constant(np.zeros((2, 0), np.float32))
        if epochs:
            self.pretraining = Constant(pretrain(self.network, hidden_in, epochs, self.mask_rate, how))
            set_axes(self.network, values, self._n_own)
        self.training = Constant(np.zeros((3, 0), np.float32))
        if self.classes:
            self._learn(values, known, how)

    def _check_something_is_learned(self, epochs: int, *, started: bool) -> None:
        if not epochs and not self.classes and not started:
            msg = (
                "Nothing would be trained: there are no labels, pretrain_epochs=0 and no weights. Pass labels_key, "
                "pretrain_epochs above 0, or weights."
            )
            raise ValueError(msg)
        if self.freeze_encoder and not epochs and not started:
            msg = "freeze_encoder=True needs an encoder that has learned: pass pretrain_epochs above 0, or weights."
            raise ValueError(msg)

    @property
    def _n_own(self) -> int:
        """Columns of the embedding that are the network's; before them is one for each class, the regression's."""
        return self.embedding_dim - (len(self.classes) if self.words else 0)

    def _reset(self, rng: np.random.Generator) -> None:
        if self._n_own < 1:
            msg = f"embedding_dim must be above the number of classes, {len(self.classes)}; got {self.embedding_dim}."
            raise ValueError(msg)
        members = [self._member() for _ in range(self.ensemble)]
        for member in members:
            member.reset(rng, self.n_hidden, self._n_own, len(self.classes))
        self.network = stack(members)
        width = n_words(self.words) * (self.length if self.by_position else 3) if self.words else 0
        self.regression = Linear()
        if self.classes and self.words:
            self.regression.kernel = nnx.Param(as_float(np.zeros((width, len(self.classes)))))
            self.regression.bias = nnx.Param(as_float(np.zeros(len(self.classes))))

    def _learn(self, values: np.ndarray, codes: np.ndarray, how: How) -> None:
        rows = np.flatnonzero(codes >= 0)
        balanced = self.class_weight == "balanced"
        groups = overlap_groups(codes_of_bases(values))
        rng = np.random.default_rng(how.seed)
        offset = np.zeros((len(values), len(self.classes)))
        if self.words:
            folds = folds_of(groups, codes, N_FOLDS, rng)
            found = fit_words(Problem(self._table(values), codes, folds, balanced))
            self.regression.kernel = nnx.Param(as_float(found.model.kernel))
            self.regression.bias = nnx.Param(as_float(found.model.bias))
            offset = found.held_out
        held_out = self._held_out(groups[rows], codes[rows], rng)
        weights = row_weights(codes[rows], balanced=balanced)
        labelled = Labelled(values[rows], codes[rows], weights, offset[rows], held_out)
        epochs = self.max_epochs or default_epochs(len(rows), self.batch_size, TRAIN_STEPS)
        history = train_labels(self.network, labelled, epochs, how, head_only=self.freeze_encoder)
        judged = history.get("validation_loss", np.full(len(history["loss"]), np.nan))
        self.training = Constant(np.stack([history["loss"], history["accuracy"], judged]).astype(np.float32))

    def _held_out(self, groups: np.ndarray, codes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Whole groups of sequences; none where a class would have no other."""
        if self.validation == 0:
            return np.empty(0, int)
        folds = folds_of(groups, codes, max(round(1 / self.validation), 2), rng)
        held_out = np.flatnonzero(folds == 0)
        rest = np.bincount(codes[folds != 0], minlength=codes.max() + 1)
        if not rest.all():
            lost = ", ".join(repr(self.classes[i]) for i in np.flatnonzero(rest == 0))
            warn(f"Nothing is held out for validation: all sequences of {lost} would be. Label more of them.")
            return np.empty(0, int)
        return held_out

    def _table(self, values: np.ndarray):
        soft, mask = (np.asarray(part) for part in soft_of(values, jnp.float32))
        table = word_table(soft, mask, self.words, by_position=self.by_position)
        if self.reverse_complement:
            other, mask = map(np.asarray, reverse_complement(jnp.asarray(soft), jnp.asarray(mask)))
            table = (table + word_table(other, mask, self.words, by_position=self.by_position)) / 2
        return table

    def __call__(self, text=None, x=None, labels=None) -> dict[str, Any]:
        del labels
        values = in_graph(text, x, self._k)
        return self.outputs_for(jnp.asarray(of_length(values, self.length)) if self._fixed else values)

    def outputs_for(self, values) -> dict[str, Any]:
        """Outputs for codes or distributions, in JAX."""
        z, logits = self.scores(*soft_of(values, self.network.project.kernel.dtype))
        if logits is None:
            return {"z": z}
        labels = Codes(logits.argmax(axis=1).astype(jnp.int32), self.classes)
        return {"z": z, "labels": labels, "probabilities": jax.nn.softmax(logits)}

    def scores(self, soft, mask) -> tuple[Any, Any]:
        """Embedding, and logits of classes (None without), of distributions over bases and the mask of positions."""
        own = each(self.network, lambda member, _: member.embed(soft, mask))
        if not self.classes:
            return jnp.concatenate(list(own), axis=1), None
        logits = self._class_logits(own)
        if not self.words:
            return jnp.concatenate(list(own), axis=1), logits
        found = self._scores(soft, mask)
        return jnp.concatenate([found, *own], axis=1), logits + found

    def _class_logits(self, own):
        kernel, bias = self.network.classify.kernel[...], self.network.classify.bias[...]
        return (jnp.einsum("enz,ezc->enc", own, kernel) + bias[:, None]).mean(axis=0)

    def _scores(self, soft, mask):
        def one(soft, mask):
            return by_place(word_channels(soft, self.words), mask, by_position=self.by_position)

        found = one(soft, mask)
        if self.reverse_complement:
            found = (found + one(*reverse_complement(soft, mask))) / 2
        return self.regression(found)

    def values_of(self, inputs: Mapping[str, Any]) -> np.ndarray:
        """Codes or distributions of sequences, checked, cut and padded."""
        values = checked(inputs.get("text"), inputs.get("x"), self.alphabet, self._k)
        return cut(values, self.length if self._fixed or self.max_length is not None else None)

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """All sequences, short ones apart from long ones, a bounded number of positions at once."""
        return outputs_of(self, self.values_of(inputs), fixed=self._fixed)

    @property
    def history(self) -> Mapping[str, Any]:
        """Of pre-training and training, arrays of shape (n_epochs,)."""
        loss, accuracy = np.asarray(self.pretraining[...])
        trained, correct, judged = np.asarray(self.training[...])
        return {
            "pretraining": {"loss": loss, "masked_accuracy": accuracy},
            "training": {"loss": trained, "accuracy": correct, "validation_loss": judged},
        }
