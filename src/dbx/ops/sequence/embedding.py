"""Sequences encoded by a convolutional network beside a regression on words."""

from __future__ import annotations

from typing import Any

from dbx.ops.checks import check_whole
from dbx.ops.sequence.convolution import ConvolutionalEncoder
from dbx.ops.sequence.embedding_operator import PoolingSetting, SequenceOperator


class SequenceEmbedding(SequenceOperator):
    """Residual convolutions over one-hot bases, beside a regression on words of up to ``words`` bases.

    With labels the penalised regression comes first: words at each position where all sequences have one length
    (the weighted degree kernel of Sonnenburg, Raetsch and Rieck, 2007), by phase otherwise. Sequences without a label
    take part with the class it predicts for them, if that helps. The network then learns what held-out logits of the
    regression lack. Without labels it learns to predict hidden bases.

    New cells: the trained network; padding and the other sequences of a call change nothing.
    """

    name = "sequence_embedding"

    def __init__(
        self,
        *,
        alphabet: str = "DNA",
        max_length: int | None = None,
        words: int = 4,
        embedding_dim: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        n_hidden: int = 128,
        kernel_sizes: tuple[int, ...] = (7, 5),
        dropout: float = 0.1,
        pooling: PoolingSetting = "auto",
        reverse_complement: bool = False,
        unlabeled: Any = "Unknown",
        batch_size: int = 64,
        pretrain_epochs: int | None = None,
        mask_rate: float = 0.15,
        max_epochs: int | None = None,
        freeze_encoder: bool = False,
        ensemble: int = 1,
        class_weight: str | None = "balanced",
        learning_rate: float = 2e-3,
        validation: float = 0.1,
        length: int = 0,
        by_position: bool = False,
        started: bool = False,
        classes: tuple[str, ...] = (),
    ):
        self.alphabet, self.max_length, self.words, self.embedding_dim = alphabet, max_length, words, embedding_dim
        self.n_layers, self.n_heads, self.n_hidden, self.kernel_sizes = n_layers, n_heads, n_hidden, kernel_sizes
        self.dropout, self.pooling, self.reverse_complement = dropout, pooling, reverse_complement
        self.unlabeled, self.batch_size, self.pretrain_epochs = unlabeled, batch_size, pretrain_epochs
        self.mask_rate, self.max_epochs, self.freeze_encoder = mask_rate, max_epochs, freeze_encoder
        self.ensemble, self.class_weight, self.learning_rate = ensemble, class_weight, learning_rate
        self.validation, self.length, self.by_position, self.classes = validation, length, by_position, classes
        self.started = started
        if not isinstance(kernel_sizes, list | tuple) or not kernel_sizes:
            msg = f"kernel_sizes must be one width or more, such as (7, 5); got {kernel_sizes!r}."
            raise ValueError(msg)
        for width in kernel_sizes:
            check_whole(width, 1, "kernel_sizes")
        if pooling == "cls":
            msg = 'pooling="cls" needs method="transformer", which has a token for the whole sequence.'
            raise ValueError(msg)
        self._check()

    def _encoder(self) -> ConvolutionalEncoder:
        widths = tuple(map(int, self.kernel_sizes))
        widths = (*widths, *[widths[-1]] * self.n_layers)[: self.n_layers]
        return ConvolutionalEncoder(kernel_sizes=widths, dropout=self.dropout)
