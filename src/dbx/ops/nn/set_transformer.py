"""Attention over the genes that a cell expresses, as a set: no order, cost linear in the number of genes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.arrays import as_float
from dbx.ops.nn.mlp import Linear

VALUE_UNITS = 32
N_HEADS = 4


class LayerNorm(nnx.Module):
    """Each row normalised by itself, scaled and offset."""

    def reset(self, n_units: int) -> None:
        """Scale 1, offset 0."""
        self.scale, self.offset = nnx.Param(as_float(np.ones(n_units))), nnx.Param(as_float(np.zeros(n_units)))

    def __call__(self, x):
        """Array of the shape of ``x``."""
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = jnp.sqrt(jnp.mean(centred**2, axis=-1, keepdims=True) + 1e-5)
        return centred / spread * self.scale[...] + self.offset[...]


class GeneAttention(nnx.Module):
    """Latent vectors that attend to the genes of a cell (Jaegle et al., ICML, 2021: a perceiver).

    A gene token is the gene's embedding and its count. The logit of latent l on gene g is ``query_l . key_g + log s``
    with ``s = log1p(count)``: the softmax over the tokens is then ``s exp(query . key)`` over its sum, one matrix
    product for all cells, and a gene without counts has no weight.
    """

    def __init__(self):
        self.key, self.value, self.out = Linear(use_bias=False), Linear(use_bias=False), Linear()

    def reset(self, rng: np.random.Generator, embedding: np.ndarray, n_latents: int) -> None:
        """Draw the parameters; genes are initialised with ``embedding``, an array of shape (n_genes, n_units)."""
        n_units = embedding.shape[1]
        self.embedding = nnx.Param(as_float(embedding))
        self.query = nnx.Param(as_float(rng.normal(0, 1, (n_latents, n_units))))
        self.start = nnx.Param(as_float(rng.normal(0, 1, (n_latents, n_units))))
        self.key.reset(rng, n_units, n_units)
        self.value.reset(rng, n_units, n_latents * VALUE_UNITS)
        self.out.reset(rng, VALUE_UNITS + 1, n_units)

    def __call__(self, x):
        """Array of shape (n_cells, n_latents, n_units) of counts, an array of shape (n_cells, n_genes)."""
        embedding, query = self.embedding[...], self.query[...]
        (n_genes, n_units), n_latents = embedding.shape, len(query)
        logits = self.key(embedding) @ query.T / np.sqrt(n_units)
        attention = jnp.exp(logits - jax.lax.stop_gradient(logits.max(axis=0)))
        values = attention[:, :, None] * self.value(embedding).reshape(n_genes, n_latents, VALUE_UNITS)
        strength = jnp.log1p(x)
        looked = (strength @ values.reshape(n_genes, -1)).reshape(-1, n_latents, VALUE_UNITS)
        looked = looked / ((strength @ attention)[:, :, None] + 1e-6)
        depth = jnp.broadcast_to(jnp.log1p(x.sum(axis=1))[:, None, None] / 10, (*looked.shape[:2], 1))
        return self.start[...] + self.out(jnp.concatenate([looked, depth], axis=-1))


class Block(nnx.Module):
    """Self-attention of vectors, then a small network for each; both are residual and normalise their input."""

    def __init__(self, *, n_heads: int = N_HEADS, linear: bool = False):
        self.n_heads, self.attend = n_heads, attend_linearly if linear else attend
        self.before, self.between = LayerNorm(), LayerNorm()
        self.within, self.back, self.wide, self.narrow = Linear(use_bias=False), Linear(), Linear(), Linear()

    def reset(self, rng: np.random.Generator, n_units: int) -> None:
        """Draw the parameters."""
        self.before.reset(n_units)
        self.between.reset(n_units)
        self.within.reset(rng, n_units, 3 * n_units)
        self.back.reset(rng, n_units, n_units)
        self.wide.reset(rng, n_units, 2 * n_units)
        self.narrow.reset(rng, 2 * n_units, n_units)

    def __call__(self, latents, seen=None):
        """Array of the shape of ``latents``, (n_cells, n_latents, n_units); only those that are ``seen`` are used."""
        query, key, value = jnp.split(self.within(self.before(latents)), 3, axis=-1)
        latents = latents + self.back(self.attend(query, key, value, self.n_heads, seen))
        return latents + self.narrow(jax.nn.gelu(self.wide(self.between(latents))))


class SetEncoder(nnx.Module):
    """Encode the counts of a cell to one vector."""

    def __init__(self, *, n_blocks: int):
        self.genes, self.blocks, self.norm = GeneAttention(), nnx.List([Block() for _ in range(n_blocks)]), LayerNorm()

    def reset(self, rng: np.random.Generator, embedding: np.ndarray, n_latents: int) -> None:
        """Draw the parameters."""
        self.genes.reset(rng, embedding, n_latents)
        for block in self.blocks:
            block.reset(rng, embedding.shape[1])
        self.norm.reset(embedding.shape[1])

    def __call__(self, x):
        """Array of shape (n_cells, n_units)."""
        latents = self.genes(x)
        for block in self.blocks:
            latents = block(latents)
        return self.norm(latents.mean(axis=1))


def attend(query, key, value, n_heads: int = N_HEADS, seen=None):
    """Scaled dot-product attention with several heads; arrays of shape (n_cells, n_latents, n_units)."""
    scores = jnp.einsum("nqhd,nkhd->nhqk", _heads(query, n_heads), _heads(key, n_heads))
    scores = scores / np.sqrt(query.shape[-1] / n_heads)
    if seen is not None:
        scores = jnp.where(seen[:, None, None] > 0, scores, -1e9)
    weights = jax.nn.softmax(scores, axis=-1)
    return jnp.einsum("nhqk,nkhd->nqhd", weights, _heads(value, n_heads)).reshape(query.shape)


def attend_linearly(query, key, value, n_heads: int = N_HEADS, seen=None):
    """Attention with the kernel ``elu + 1`` (Katharopoulos et al., ICML, 2020): linear in the number of vectors."""
    query, key = jax.nn.elu(_heads(query, n_heads)) + 1, jax.nn.elu(_heads(key, n_heads)) + 1
    if seen is not None:
        key = key * seen[..., None, None]
    looked = jnp.einsum("nkhd,nkhe->nhde", key, _heads(value, n_heads))
    total = jnp.einsum("nqhd,nhd->nqh", query, key.sum(axis=1))
    return (jnp.einsum("nqhd,nhde->nqhe", query, looked) / (total[..., None] + 1e-6)).reshape(value.shape)


def _heads(x, n_heads: int):
    return x.reshape(*x.shape[:2], n_heads, -1)
