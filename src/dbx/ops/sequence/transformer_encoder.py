"""Sequences encoded by a transformer beside a regression on words."""

from __future__ import annotations

from typing import Any, Literal

from dbx.ops.checks import check_known, check_whole
from dbx.ops.sequence.embedding_operator import PoolingSetting, SequenceOperator
from dbx.ops.sequence.transformer import PositionName, TransformerEncoder

LONGEST_KMER = 6


class TransformerSequenceEncoder(SequenceOperator):
    """Self-attention between bases or words of k bases, beside a regression as in :class:`SequenceEmbedding`.

    Blocks normalise first (Xiong et al., ICML 2020) and never attend to padding.

    New cells: the trained network; padding and the other sequences of a call change nothing.
    """

    name = "sequence_transformer"

    def __init__(
        self,
        *,
        alphabet: str = "DNA",
        tokens: Literal["base", "kmer"] = "base",
        k: int = 6,
        max_length: int | None = None,
        words: int = 4,
        embedding_dim: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        n_hidden: int = 128,
        dropout: float = 0.1,
        pooling: PoolingSetting = "auto",
        positions: PositionName = "learned",
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
        self.alphabet, self.tokens, self.k, self.max_length, self.words = alphabet, tokens, k, max_length, words
        self.embedding_dim, self.n_layers, self.n_heads, self.n_hidden = embedding_dim, n_layers, n_heads, n_hidden
        self.dropout, self.pooling, self.positions = dropout, pooling, positions
        self.reverse_complement, self.unlabeled, self.batch_size = reverse_complement, unlabeled, batch_size
        self.pretrain_epochs, self.mask_rate, self.max_epochs = pretrain_epochs, mask_rate, max_epochs
        self.freeze_encoder, self.ensemble, self.class_weight = freeze_encoder, ensemble, class_weight
        self.learning_rate, self.validation, self.length = learning_rate, validation, length
        self.by_position, self.classes = by_position, classes
        check_known(tokens, ("base", "kmer"), "tokens")
        check_known(positions, ("learned", "sinusoidal", "rotary"), "positions")
        check_whole(k, 1, "k")
        if k > LONGEST_KMER:
            msg = f"k must be at most {LONGEST_KMER}, since there are 4^k words; got {k}."
            raise ValueError(msg)
        check_whole(n_heads, 1, "n_heads")
        if embedding_dim % n_heads:
            msg = f"n_heads must divide embedding_dim, {embedding_dim}; got {n_heads}."
            raise ValueError(msg)
        self.started = started
        self._check()

    @property
    def _fixed(self) -> bool:
        return self._pooling == "position" or self.positions == "learned"

    def _encoder(self) -> TransformerEncoder:
        return TransformerEncoder(
            n_units=self.embedding_dim,
            n_layers=self.n_layers,
            n_heads=self.n_heads,
            dropout=self.dropout,
            positions=self.positions,
            n_positions=-(-self.length // (self._k or 1)),
            k=self._k,
            with_cls=self._pooling == "cls",
        )
