"""What the filters of a network look for, as position weight matrices."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.sequence.convolution import ConvolutionalEncoder
from dbx.ops.sequence.embedding import SequenceEmbedding
from dbx.ops.sequence.sequences import soft_of

FEWEST_SITES = 10
HALF = 0.5
"""Fraction of its largest activation from which a filter has found its motif, as in Kelley et al. (Basset, 2016)."""
PSEUDOCOUNT = 0.25


class Motif(NamedTuple):
    """A filter: its number, probabilities of bases at each position, bits in all, and sites it was found at."""

    number: int
    probabilities: np.ndarray
    information: float
    n_sites: int


def motifs(operator: SequenceEmbedding, values: np.ndarray) -> list[Motif]:
    """One for each filter that finds enough sites in these sequences, those with most information first.

    Information is relative to the bases of these sequences.
    """
    filters = cast(ConvolutionalEncoder, operator.network.encoder).filters
    activations = _activations(*nnx.split(filters), values)
    soft, mask = (np.asarray(part) for part in soft_of(values, jnp.float32))
    background = soft.sum(axis=(0, 1)) / mask.sum()
    width = filters.width
    before = (width - 1) // 2
    padded = np.pad(soft, [(0, 0), (before, width - 1 - before), (0, 0)])
    inside = np.stack([padded[:, j : j + soft.shape[1]].any(axis=2) for j in range(width)]).all(axis=0)
    found = []
    for number, activation in enumerate(np.asarray(activations).transpose(2, 0, 1)):
        kept = np.where(inside, activation, -np.inf)
        if not np.isfinite(kept).any() or kept.max() <= 0:
            continue
        rows, places = np.nonzero(kept >= HALF * kept.max())
        if len(rows) < FEWEST_SITES:
            continue
        counts = np.stack([padded[rows, places + j].sum(axis=0) for j in range(width)]) + 4 * PSEUDOCOUNT * background
        probabilities = counts / counts.sum(axis=1, keepdims=True)
        bits = float((probabilities * np.log2(probabilities / background)).sum())
        found.append(Motif(number, probabilities, bits, len(rows)))
    return sorted(found, key=lambda motif: -motif.information)


@partial(jax.jit, static_argnums=0)
def _activations(graphdef, state, values) -> Any:
    """Of the filters of all members, array of shape (n_sequences, length, n_members * n_filters)."""
    soft, _ = soft_of(values, jnp.float32)
    x = jnp.concatenate([soft, jnp.zeros_like(soft[..., :1])], axis=-1)
    found = jax.vmap(lambda member: nnx.merge(graphdef, member)(x))(state)
    return jnp.moveaxis(found, 0, -2).reshape(*soft.shape[:2], -1)
