"""What the encoders of sequences share: input, fit, embedding, and classes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx._warnings import warn
from dbx.ops.annotation.held_out import folds_of, held_out_rows
from dbx.ops.annotation.labels import known_labels
from dbx.ops.arrays import as_float
from dbx.ops.nn.mlp import Linear
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent, with_fields
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
from dbx.ops.sequence.groups import overlap_groups
from dbx.ops.sequence.network import SequenceNetwork, reverse_complement
from dbx.ops.sequence.pooling import Pooling
from dbx.ops.sequence.regression import Fitted, Problem, fit_words, row_weights
from dbx.ops.sequence.sequences import checked, cut, in_graph, lengths, soft_of
from dbx.ops.sequence.settings import check_settings
from dbx.ops.sequence.starts import copy_of, learn_from_both, report
from dbx.ops.sequence.symmetries import Sequences, with_changes
from dbx.ops.sequence.transformer import TransformerEncoder
from dbx.ops.sequence.weights import check_vocabulary, load, start_from
from dbx.ops.sequence.words import by_place, n_words, word_channels, word_table
from dbx.ops.values import Codes

PoolingSetting = Literal["auto", "mean", "max", "cls", "attention", "position"]
N_FOLDS = 4
NOT_KEPT = (
    "This network was pre-trained on other sequences, which a program does not keep. Pre-train on them alone with "
    "save_weights, and pass the file as weights, which is read again at every fit; or call dbx.tl.sequence_embedding "
    "again with pretrain_on."
)


@with_fields
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

    alphabet: str = "DNA"
    max_length: int | None = None
    words: int = 4
    embedding_dim: int = 64
    n_layers: int = 2
    n_heads: int = 4
    n_hidden: int = 128
    dropout: float = 0.1
    pooling: PoolingSetting = "auto"
    reverse_complement: bool = False
    unlabeled: Any = "Unknown"
    batch_size: int = 64
    pretrain_epochs: int | None = None
    mask_rate: float = 0.15
    max_epochs: int | None = None
    freeze_encoder: bool = False
    ensemble: int = 1
    class_weight: str | None = "balanced"
    weights: str | None = None
    learning_rate: float = 2e-3
    validation: float = 0.1
    length: int = 0
    by_position: bool = False
    started: bool = False
    classes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self)
        self.network, self.regression = self._member(), Linear()

    def _encoder(self) -> ConvolutionalEncoder | TransformerEncoder:
        raise NotImplementedError

    @property
    def _k(self) -> int | None:
        """Bases of a word, None where tokens are bases."""
        return None

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

    def fit(
        self,
        *,
        text: Any = None,
        x: Any = None,
        labels: Codes | None = None,
        pretrain_on: Mapping[str, Any] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Pre-train on all sequences or on others, fit the regression on words, then train the network beside it."""
        if self.started and pretrain_on is None:
            raise ValueError(NOT_KEPT)
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
        self.started = pretrain_on is not None
        hidden_in = values
        if pretrain_on is not None:
            hidden_in = cut(checked(pretrain_on.get("text"), pretrain_on.get("x"), self.alphabet, self._k), self.length)
        wanted = self.started or (not self.classes and self.weights is None)
        epochs = default_epochs(len(hidden_in), self.batch_size, PRETRAIN_STEPS) if wanted else 0
        epochs = epochs if self.pretrain_epochs is None else self.pretrain_epochs
        self._check_something_is_learned(epochs)
        self._reset(np.random.default_rng(seed))
        if self.weights is not None:
            tensors, facts = load(self.weights)
            check_vocabulary(facts, self, self.weights)
            start_from(self.network, tensors, self.weights)
        how = How(self.batch_size, self.learning_rate, seed, progress)
        self.pretraining, self.judged = Constant(np.zeros((2, 0), np.float32)), Constant(np.zeros(0, np.float32))
        plain = None
        if epochs:
            plain = copy_of(self.network) if self.classes and not self.freeze_encoder else None
            self.pretraining = Constant(pretrain(self.network, hidden_in, epochs, self.mask_rate, how))
            if plain is None:  # labels are learned less well from principal axes than from drawn ones
                set_axes(self.network, values, self._n_own)
        self.training = Constant(np.zeros((3, 0), np.float32))
        if self.classes:
            self._learn(values, known, how, plain)

    def _check_something_is_learned(self, epochs: int) -> None:
        if not epochs and not self.classes and self.weights is None:
            msg = (
                "Nothing would be trained: there are no labels, pretrain_epochs=0 and no weights. Pass labels_key, "
                "pretrain_epochs above 0, or weights."
            )
            raise ValueError(msg)
        if self.freeze_encoder and not epochs and self.weights is None:
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

    def _learn(self, values: np.ndarray, codes: np.ndarray, how: How, plain: SequenceNetwork | None) -> None:
        """Fit the regression, then the network; from ``plain`` as well, and it is kept unless pre-training helped."""
        rows = np.flatnonzero(codes >= 0)
        balanced = self.class_weight == "balanced"
        groups = overlap_groups(codes_of_bases(values))
        rng = np.random.default_rng(how.seed)
        offset = np.zeros((len(values), len(self.classes)))
        if self.words:
            folds = folds_of(groups, codes, N_FOLDS, rng)
            problem = Problem(self._table(values), codes, folds, balanced)
            found = fit_words(problem, partial(self._changed, problem, values) if self._may_turn else None)
            self.regression.kernel = nnx.Param(as_float(found.model.kernel))
            self.regression.bias = nnx.Param(as_float(found.model.bias))
            offset = found.held_out
        held_out = held_out_rows(codes[rows], self.validation, rng, groups=groups[rows])
        if self.validation and not len(held_out):
            counts = np.bincount(codes[rows])
            warn(
                "Nothing is held out for validation, since all sequences of a class would be: label more of them. The "
                f"rarest class, {self.classes[counts.argmin()]!r}, has {counts.min()}."
            )
        weights = row_weights(codes[rows], balanced=balanced)
        labelled = Labelled(values[rows], codes[rows], weights, offset[rows], held_out)
        epochs = self.max_epochs or default_epochs(len(rows), self.batch_size, TRAIN_STEPS)
        learn = partial(train_labels, epochs=epochs, how=how, head_only=self.freeze_encoder)
        if plain is not None and len(held_out):
            self.network, history, judged = learn_from_both(self.network, plain, labelled, learn)
            self.judged = Constant(judged)
        else:
            history = learn(self.network, labelled)
        validation = history.get("validation_loss", np.full(len(history["loss"]), np.nan))
        self.training = Constant(np.stack([history["loss"], history["accuracy"], validation]).astype(np.float32))

    @property
    def _may_turn(self) -> bool:
        """Whether another phase or strand of a sequence may be of another class."""
        return not self.by_position and not self.reverse_complement

    def _changed(self, problem: Problem, values: np.ndarray, found: Fitted) -> Problem | None:
        soft, mask = (np.asarray(part) for part in soft_of(values, jnp.float32))
        return with_changes(problem, found, Sequences(soft, mask, self.words))

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
        """Of pre-training, with whether it was kept, and of training; arrays of shape (n_epochs,)."""
        loss, accuracy = np.asarray(self.pretraining[...])
        trained, correct, judged = np.asarray(self.training[...])
        return {
            "pretraining": {"loss": loss, "masked_accuracy": accuracy, **report(np.asarray(self.judged[...]))},
            "training": {"loss": trained, "accuracy": correct, "validation_loss": judged},
        }
