"""Sequences encoded by a transformer beside a regression on words."""

from __future__ import annotations

from typing import Literal

from dbx.ops.checks import check_known, check_whole
from dbx.ops.operator import with_fields
from dbx.ops.sequence.embedding_operator import SequenceOperator
from dbx.ops.sequence.transformer import PositionName, TransformerEncoder

LONGEST_KMER = 6


@with_fields
class TransformerSequenceEncoder(SequenceOperator):
    """Self-attention between bases or words of k bases, beside a regression as in :class:`SequenceEmbedding`.

    Blocks normalise first (Xiong et al., ICML 2020) and never attend to padding.

    New cells: the trained network; padding and the other sequences of a call change nothing.
    """

    name = "sequence_transformer"

    tokens: Literal["base", "kmer"] = "base"
    k: int = 6
    positions: PositionName = "learned"

    def __post_init__(self) -> None:
        check_known(self.tokens, ("base", "kmer"), "tokens")
        check_known(self.positions, ("learned", "sinusoidal", "rotary"), "positions")
        check_whole(self.k, 1, "k")
        if self.k > LONGEST_KMER:
            msg = f"k must be at most {LONGEST_KMER}, since there are 4^k words; got {self.k}."
            raise ValueError(msg)
        check_whole(self.n_heads, 1, "n_heads")
        if self.embedding_dim % self.n_heads:
            msg = f"n_heads must divide embedding_dim, {self.embedding_dim}; got {self.n_heads}."
            raise ValueError(msg)
        super().__post_init__()

    @property
    def _k(self) -> int | None:
        return self.k if self.tokens == "kmer" else None

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
