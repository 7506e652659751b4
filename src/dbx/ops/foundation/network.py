"""The network: counts of some genes of a cell to one vector, and from there to the counts of all genes."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.foundation.reading import Reading
from dbx.ops.foundation.tokens import TokenBlocks, chosen_genes
from dbx.ops.foundation.values import ValueEmbedding
from dbx.ops.nn.mlp import Linear
from dbx.ops.nn.set_transformer import Block
from dbx.ops.operator import Constant

LEAST_SEEN = 0.02
"""Smallest share of a cell's expected counts that stands for all of them."""
LARGEST_FOLD = 8.0
"""Predictions stay within this of the gene's mean, in logarithms."""
CELLS_AT_ONCE = 32
DROPOUT = 0.2
"""Share of the entries of a cell's vector that a training step leaves out."""


@dataclass(frozen=True)
class Shape:
    """Settings of the network."""

    values: str
    sampling: str
    max_length: int
    n_layers: int
    n_hidden: int
    n_heads: int
    attention: str
    n_induced: int
    pooling: str


class Network(nnx.Module):
    """A set of genes with values to a vector of the cell; genes have no order.

    The head multiplies the mean of the gene, times the depth that the shown genes suggest, by the exponential of a
    product of the cell's vector and the gene's; it starts at 1.
    """

    def __init__(self, shape: Shape):
        self.shape = shape
        self.values = ValueEmbedding(shape.values)
        if shape.attention == "induced":
            self.reading = Reading(shape.n_heads)
            self.blocks = nnx.List([Block(n_heads=shape.n_heads) for _ in range(shape.n_layers)])
        else:
            self.tokens = TokenBlocks(shape.n_layers, shape.n_heads, shape.attention)
        self.head = Linear(use_bias=False)

    def reset(self, rng: np.random.Generator, genes: np.ndarray, frequency: np.ndarray, weight: np.ndarray) -> None:
        """Draw the parameters; ``genes`` are first embeddings, of shape (n_genes, n_hidden), ``frequency`` by batch."""
        shape = self.shape
        self.gene_embedding, self.gene_decoder = nnx.Param(as_float(genes)), nnx.Param(as_float(genes))
        mean = frequency.mean(axis=0)
        self.frequency = Constant(as_float(mean))
        self.log_frequency = nnx.Param(as_float(np.log(mean)))
        self.batch_shift = nnx.Param(as_float(np.log(frequency) - np.log(mean)))
        self.values.reset(rng, weight)
        if shape.attention == "induced":
            self.reading.reset(rng, shape.n_hidden, shape.n_induced)
            for block in self.blocks:
                block.reset(rng, shape.n_hidden)
        else:
            self.tokens.reset(rng, shape.n_hidden)
        self.head.reset(rng, shape.n_hidden, shape.n_hidden)
        self.head.kernel[...] = as_float(np.zeros((shape.n_hidden, shape.n_hidden)))

    def depth(self, x, shown):
        """Total of each cell if all genes were shown, an array of shape (n_cells, 1), by gene means."""
        share = jnp.maximum((shown * self.frequency[...]).sum(axis=1, keepdims=True), LEAST_SEEN)
        return jnp.maximum((x * shown).sum(axis=1, keepdims=True) / share, 1)

    def __call__(self, x, shown, key=None):
        """The vector of each cell, an array of shape (n_cells, n_hidden).

        ``shown`` is 1 for genes that are seen; with a key, genes without counts are drawn where not all fit.
        """
        expected = self.depth(x, shown) * self.frequency[...]
        signal, features = self.values(x * shown, shown, expected)
        genes = self.gene_embedding[...]
        if x.shape[1] > self.shape.max_length:
            chosen = chosen_genes(x * shown, shown, expected, self.shape.max_length, self.shape.sampling, key)
            genes, shown = genes[chosen], jnp.take_along_axis(shown, chosen, axis=1)
            signal = jnp.take_along_axis(signal, chosen, axis=1)
            features = jnp.take_along_axis(features, chosen[..., None], axis=1)
        cell = self._pooled(*self._attended(genes, signal, features, shown))
        if key is None:
            return cell
        kept = jax.random.bernoulli(jax.random.fold_in(key, 1), 1 - DROPOUT, cell.shape)
        return jnp.where(kept, cell / (1 - DROPOUT), 0)

    def signals(self, x, shown):
        """How much more there is of each gene than by gene means; 0 for genes that are not shown."""
        expected = self.depth(x, shown) * self.frequency[...]
        return self.values(x * shown, shown, expected)[0] * shown

    def _attended(self, genes, signal, features, shown):
        """Vectors of a cell that have attended to its genes, the one of the cell first, and 1 for those that count."""
        if self.shape.attention == "induced":
            latents = self.reading(genes, signal, features, shown)
            for block in self.blocks:
                latents = block(latents)
            return latents, jnp.ones(latents.shape[:2], latents.dtype)
        return self.tokens(genes, signal, features, shown)

    def _pooled(self, vectors, seen):
        if self.shape.pooling == "cls":
            return vectors[:, 0]
        return (vectors * seen[..., None]).sum(axis=1) / seen.sum(axis=1, keepdims=True)

    def log_fold(self, cell):
        """Logarithm of each gene's count over that by the gene's mean, an array of shape (n_cells, n_genes)."""
        fold = self.head(cell) @ self.gene_decoder[...].T / np.sqrt(self.shape.n_hidden)
        return LARGEST_FOLD * jnp.tanh(fold / LARGEST_FOLD)

    def log_mean(self, cell, depth, batch=None):
        """Logarithm of expected counts, an array of shape (n_cells, n_genes); without a batch for the mean of all."""
        shift = 0 if batch is None else self.batch_shift[...][batch]
        return jnp.log(depth) + self.log_frequency[...] + shift + self.log_fold(cell)


def in_groups(function, *arrays):
    """``function`` of rows, a few at a time: attention of many cells at once takes memory."""
    n = len(arrays[0])
    if n <= CELLS_AT_ONCE:
        return function(*arrays)
    n_groups = -(-n // CELLS_AT_ONCE)

    def grouped(x):
        # the padding repeats rows, so that none is without counts
        rows = jnp.arange(n_groups * CELLS_AT_ONCE, dtype=jnp.int32) % n
        return x[rows].reshape(n_groups, CELLS_AT_ONCE, *x.shape[1:])

    found = jax.lax.map(lambda rows: function(*rows), tuple(map(grouped, arrays)))
    return jax.tree.map(lambda y: y.reshape(-1, *y.shape[2:])[:n], found)
