"""Where training starts: gene frequencies, and embeddings of genes from how they vary together."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.components.principal_axes import principal_axes
from dbx.ops.counts.count_profile import count_profile
from dbx.ops.foundation.objectives import Predictor
from dbx.ops.foundation.smoothing import MOST_VALUES, Similar
from dbx.ops.foundation.values import SCALE
from dbx.ops.tokens.gene_factors import gene_factors

SAMPLE_VALUES = 20_000_000
"""Entries of the sample of cells from which embeddings of genes start."""
N_AXES = 20
NOISE = 0.3
"""Standard deviation of the other columns of the embedding; that of an axis is 1."""


def reset(
    model: Predictor,
    x: RowBlocks,
    batch: np.ndarray,
    n_batches: int,
    rng: np.random.Generator,
    mask: RowBlocks | None = None,
) -> Similar | None:
    """Draw the parameters of a model for these cells, in place; counts where ``mask`` is 1 are not used.

    Genes start at the principal axes of the values of a sample of cells, so that genes that vary together are close.

    Returns
    -------
    The cells along these axes, to find neighbours of cells; None for many cells.
    """
    x, share = (x, np.ones(x.n_columns)) if mask is None else _visible(x, mask)
    start = count_profile(x, batch, n_batches, pseudocount=0.5)
    frequency = start.frequency / share
    frequency /= frequency.sum(axis=1, keepdims=True)
    factor = gene_factors(x, SCALE, "median")
    weight = np.where(factor > 0, 1 / np.where(factor > 0, factor, 1), 0)
    n_hidden = model.network.shape.n_hidden
    noise = rng.normal(0, NOISE, (x.n_columns, n_hidden))
    sample = _sample(x, rng)
    model.reset(rng, noise, frequency, weight, start.theta, _moments(sample))
    _settle(model, sample)
    n_axes = min(N_AXES, n_hidden, len(sample) - 1, x.n_columns - 1)
    if n_axes < 1:
        return None
    signals = _signals(model, sample)
    axes = principal_axes(RowBlocks(signals), n_axes).directions
    noise[:, :n_axes] = axes * np.sqrt(x.n_columns)
    network = model.network
    network.gene_embedding[...] = network.gene_decoder[...] = np.asarray(noise, np.float32)
    if x.n_rows * x.n_columns > MOST_VALUES:
        return None
    return Similar(axes, signals @ axes, sample, None if mask is None else mask.dense())


def _visible(x: RowBlocks, mask: RowBlocks) -> tuple[RowBlocks, np.ndarray]:
    """Counts that are not hidden, and the share of the cells in which each gene is not."""
    parts, seen = [], np.zeros(x.n_columns)
    for start, stop, rows in x.parts():
        hidden = mask.dense(slice(start, stop)) > 0
        seen += (~hidden).sum(axis=0)
        parts.append(sparse.csr_matrix(sparse.csr_matrix(rows).multiply(~hidden)))
    return RowBlocks(sparse.vstack(parts, format="csr")), np.maximum(seen, 1) / x.n_rows


def _sample(x: RowBlocks, rng: np.random.Generator) -> np.ndarray:
    n = min(max(SAMPLE_VALUES // x.n_columns, 100), x.n_rows)
    rows = np.arange(x.n_rows) if n == x.n_rows else np.sort(rng.choice(x.n_rows, n, replace=False))
    return RowBlocks(x.rows(rows)).dense()


def _moments(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the logarithm of each gene's scaled counts."""
    log = np.log1p(sample / np.maximum(sample.sum(axis=1, keepdims=True), 1) * SCALE)
    return log.mean(axis=0), np.maximum(log.std(axis=0), 0.05)


def _settle(model: Predictor, sample: np.ndarray) -> None:
    """Means and standard deviations of ranks or bins, for signals."""
    if model.network.shape.values in ("rank", "bins"):
        raw = _in_parts(_raw, model, sample)
        model.network.values.settle(raw.mean(axis=0), raw.std(axis=0))


def _signals(model: Predictor, sample: np.ndarray) -> np.ndarray:
    return _in_parts(_signal, model, sample)


def _in_parts(function, model: Predictor, sample: np.ndarray) -> np.ndarray:
    graphdef, state = nnx.split(model.network)
    size = min(512, len(sample))
    parts = []
    for first in range(0, len(sample), size):
        part = sample[first : first + size]
        padded = np.pad(part, [(0, size - len(part)), (0, 0)])
        parts.append(np.asarray(function(graphdef, state, padded))[: len(part)])
    return np.concatenate(parts)


@partial(jax.jit, static_argnums=0)
def _raw(graphdef, state, x):
    return nnx.merge(graphdef, state).values.raw(x, jnp.ones_like(x))


@partial(jax.jit, static_argnums=0)
def _signal(graphdef, state, x):
    network, shown = nnx.merge(graphdef, state), np.ones(x.shape, np.float32)
    return network.values(x, shown, network.depth(x, shown) * network.frequency[...])[0]
