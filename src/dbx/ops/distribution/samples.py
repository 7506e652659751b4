"""Non-zero values of genes as samples for mixtures, many values as a histogram."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from dbx.ops.differential.gene_columns import Columns
from dbx.ops.distribution.mixture import Sample

BINS = 128
"""Bins of a gene with more values than ``EXACT``; a bin's value is the mean of its cells."""
EXACT = 256


class Scaled(NamedTuple):
    """A sample with the unit of each gene."""

    sample: Sample
    centre: np.ndarray
    scale: np.ndarray
    """Standard deviation; 1 where all values are the same."""

    @classmethod
    def joined(cls, parts: Sequence[Scaled]) -> Scaled:
        """Those of consecutive genes."""
        value, count = (np.concatenate([part.sample[i] for part in parts]) for i in range(2))
        centre, scale = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
        return cls(Sample(value, count), centre, scale)


def scaled_sample(genes: Columns, second: np.ndarray, width: int) -> Scaled:
    """Standardise the values of each gene.

    Parameters
    ----------
    genes
        Non-zero values with, as their groups, the rows of their cells.
    second
        Array of shape (n_cells,), bool: cells of the second condition.
    width
        Values or bins of a gene.
    """
    stored, n_genes = np.diff(genes.start), len(genes.start) - 1
    gene = np.repeat(np.arange(n_genes), stored)
    some = np.maximum(stored, 1)
    value = genes.value.astype(np.float64)
    centre = np.bincount(gene, value, n_genes) / some
    value -= centre[gene]
    scale = np.sqrt(np.bincount(gene, value**2, n_genes) / some)
    scale = np.where(scale > 1e-12 * np.maximum(np.abs(centre), 1e-300), scale, 1.0)
    value /= scale[gene]
    place = np.arange(len(value)) - np.repeat(genes.start[:-1], stored)
    if stored.max(initial=0) > width:
        low, high = np.full(n_genes, np.inf), np.full(n_genes, -np.inf)
        np.minimum.at(low, gene, value)
        np.maximum.at(high, gene, value)
        span = np.maximum(high - low, 1e-12)
        place = np.where(
            stored[gene] > width, np.minimum((value - low[gene]) / span[gene] * width, width - 1), place
        ).astype(np.int64)
    at = gene * width + place
    size = np.bincount(at, minlength=n_genes * width)
    mean = np.bincount(at, value, n_genes * width) / np.maximum(size, 1)
    two = np.bincount(at, second[genes.group], n_genes * width)
    count = np.stack([size - two, two], axis=0).reshape(2, n_genes, width).transpose(1, 0, 2)
    sample = Sample(mean.reshape(n_genes, width).astype(np.float32), np.ascontiguousarray(count, np.float32))
    return Scaled(sample, centre, scale)


def gathered(parts: Iterable[Scaled], most: int) -> Iterator[Scaled]:
    """Blocks of at least ``most`` genes: iterations of many genes together take less time."""
    held: list[Scaled] = []
    for part in parts:
        held.append(part)
        if sum(len(one.centre) for one in held) >= most:
            yield Scaled.joined(held)
            held = []
    if held:
        yield Scaled.joined(held)


def sample_width(most: int) -> int:
    """Values or bins for genes with up to so many values."""
    return BINS if most > EXACT else max(most, 1)
