"""Sequences encoded by a convolutional network beside a regression on words."""

from __future__ import annotations

from dbx.ops.checks import check_whole
from dbx.ops.operator import with_fields
from dbx.ops.sequence.convolution import ConvolutionalEncoder
from dbx.ops.sequence.embedding_operator import SequenceOperator


@with_fields
class SequenceEmbedding(SequenceOperator):
    """Residual convolutions over one-hot bases, beside a regression on words of up to ``words`` bases.

    With labels the penalised regression comes first: words at each position where all sequences have one length
    (the weighted degree kernel of Sonnenburg, Raetsch and Rieck, 2007), by phase otherwise. Sequences without a label
    take part with the class it predicts for them, and labelled ones that are not aligned in other phases and on the
    other strand, if that helps. The network then learns what held-out logits of the
    regression lack. Without labels it learns to predict hidden bases.

    New cells: the trained network; padding and the other sequences of a call change nothing.
    """

    name = "sequence_embedding"

    kernel_sizes: tuple[int, ...] = (7, 5)

    def __post_init__(self) -> None:
        if not isinstance(self.kernel_sizes, list | tuple) or not self.kernel_sizes:
            msg = f"kernel_sizes must be one width or more, such as (7, 5); got {self.kernel_sizes!r}."
            raise ValueError(msg)
        for width in self.kernel_sizes:
            check_whole(width, 1, "kernel_sizes")
        if self.pooling == "cls":
            msg = 'pooling="cls" needs method="transformer", which has a token for the whole sequence.'
            raise ValueError(msg)
        super().__post_init__()

    def _encoder(self) -> ConvolutionalEncoder:
        widths = tuple(map(int, self.kernel_sizes))
        widths = (*widths, *[widths[-1]] * self.n_layers)[: self.n_layers]
        return ConvolutionalEncoder(kernel_sizes=widths, dropout=self.dropout)
