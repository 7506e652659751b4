"""The model of `simulate`: its parameters, and sampling from it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse
from scipy.special import expit

from dbx.datasets.distributions import Distributions
from dbx.datasets.paths import Paths

CELLS_PER_DRAW = 256
"""Cells that share a random stream; fixed, so that the counts depend only on the seed."""

DRAWS_AT_ONCE = 64
"""Draws whose counts wait in memory until they are used."""

GENES, CELLS, COUNTS, OUTLIERS, LEVELS, PATHS, SWITCHES, CONDITIONS, COMPONENTS = range(9)
"""Streams of a seed. Optional parts use separate streams, so that turning them on does not change the others."""


class Variation:
    """The biological coefficient of variation of every gene, at any expected count."""

    def __init__(self, dispersion: float, trend: float, scatter: np.ndarray):
        self.dispersion = dispersion * scatter
        """Array of shape (n_genes,): squared coefficient of variation at high counts."""
        self.trend = trend * np.sqrt(scatter)
        """Array of shape (n_genes,): addition to the coefficient at an expected count of 1."""

    def scatter(self, rate: np.ndarray, rng: np.random.Generator) -> None:
        """Sample the cells' means around the expected counts, an array of shape (n_cells, n_genes), in place."""
        trended = self.trend.any()
        varies = slice(None) if trended else self.dispersion > 0
        shape = 1 / (self._at(rate) ** 2 if trended else self.dispersion[varies])
        rate[:, varies] *= rng.standard_gamma(shape, (len(rate), shape.shape[-1])) / shape

    def _at(self, rate: np.ndarray) -> np.ndarray:
        root = np.sqrt(np.maximum(rate, 1e-300))  # a gene without any expression stays finite, and zero
        return np.sqrt(self.dispersion) + self.trend / root


@dataclass(frozen=True)
class Level:
    """Groups of one level of the nesting, and their factors."""

    name: str
    member: np.ndarray
    """Array of shape (n_groups,), int: this level's group that each of the finest groups belongs to."""
    factors: np.ndarray
    """Array of shape (n, n_genes): factors of the gene means from this level alone."""


@dataclass(kw_only=True)
class Truth:
    """The ground truth; gene means are relative to each other until scaled by a cell's library size."""

    group: np.ndarray
    """Array of shape (n_cells,), int."""
    batch: np.ndarray
    """Array of shape (n_cells,), int."""
    library_size: np.ndarray
    """Array of shape (n_cells,): expected total count."""
    mean: np.ndarray
    """Array of shape (n_genes,): relative expression before group and batch factors."""
    outlier: np.ndarray
    """Array of shape (n_genes,): factor over the median of the means for outliers, else 1."""
    bcv: Variation
    levels: list[Level]
    """Coarsest first; the groups themselves last."""
    batch_factors: np.ndarray
    """Array of shape (n_batches, n_genes)."""
    dropout: tuple[float, float] | None
    """Midpoint and shape of the logistic curve over the logarithm of the mean."""
    paths: Paths | None = None
    distributions: Distributions | None = None

    @cached_property
    def group_factors(self) -> np.ndarray:
        """Array of shape (n_groups, n_genes): product of the factors of all levels, or those at the end of a path."""
        if self.paths is not None:
            return self.paths.end
        return np.prod([level.factors[level.member] for level in self.levels], axis=0)

    def cell_factors(self, cells: slice, seed: int) -> np.ndarray:
        """Factors of the means by groups or paths and by components, an array of shape (n_cells, n_genes)."""
        group = self.group[cells]
        found = self.group_factors[group] if self.paths is None else self.paths.factors(group, self.paths.step[cells])
        if self.distributions is not None:
            found *= self.distributions.factors(stream(seed, COMPONENTS, cells.start), cells)
        return found

    def expected(self, cells: slice, seed: int) -> np.ndarray:
        """Expected counts before dropout, an array of shape (n_cells, n_genes); ``seed`` draws components."""
        relative = self.mean * self.cell_factors(cells, seed) * self.batch_factors[self.batch[cells]]
        return self.library_size[cells, None] * relative / relative.sum(axis=1, keepdims=True)


def stream(seed: int, *key: int) -> np.random.Generator:
    """An independent random stream of the seed."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def draw_codes(rng: np.random.Generator, n: int, size: int, shares: Sequence[float] | None) -> np.ndarray:
    """Random codes from 0 to n - 1, with the given frequencies or equal ones."""
    return rng.integers(n, size=size) if shares is None else rng.choice(n, size, p=np.asarray(shares) / np.sum(shares))


def draw_outliers(rng: np.random.Generator, n_genes: int, probability: float, location: float, scale: float):
    """Array of shape (n_genes,): factors over the median of the means for outliers, 1 for other genes."""
    is_outlier = rng.random(n_genes) < probability
    return np.where(is_outlier, np.exp(np.abs(rng.normal(location, scale, n_genes))), 1.0)


def with_outliers(mean: np.ndarray, outlier: np.ndarray) -> np.ndarray:
    """Means, with those of outliers replaced by their factor times the median."""
    return np.where(outlier == 1, mean, outlier * np.median(mean))


def draw_scatter(rng: np.random.Generator, df: float, n_genes: int) -> np.ndarray:
    """Array of shape (n_genes,): factors of the genes' squared coefficients of variation."""
    return np.ones(n_genes) if np.isinf(df) else df / rng.chisquare(df, n_genes)


def draw_group_factors(rng: np.random.Generator, shape, probability: float, location: float, scale: float, down: float):
    """Array of ``shape``: 1, or for changed genes a log-normal factor, of which the fraction ``down`` is below 1."""
    differs, coin = rng.random(shape) < probability, rng.random(shape)
    size = rng.normal(location, scale, shape)
    # the coin of a negative size is mirrored: the fraction below 1 stays exact, and at down=0.5 the coin alone decides
    # between a factor and its inverse, so that factors change smoothly with the location
    is_down = np.where(size < 0, coin >= 1 - down, coin < down)
    return np.exp(np.where(differs, np.where(is_down, -np.abs(size), np.abs(size)), 0))


def draw_batch_factors(rng: np.random.Generator, shape, location: float, scale: float) -> np.ndarray:
    """Array of shape (n_batches, n_genes); all 1 for a single batch."""
    return np.ones(shape) if shape[0] == 1 else rng.lognormal(location, scale, shape)


def draw_levels(genes: np.random.Generator, seed: int, sizes: list[int], n_genes: int, settings) -> list[Level]:
    """The levels of the nesting, coarsest first; each setting is one number, or one per level."""
    members = memberships(sizes)
    by_level = zip(*(np.broadcast_to(setting, len(sizes)) for setting in settings), strict=True)
    levels = []
    for number, (size, member, setting) in enumerate(zip(sizes, members, by_level, strict=True), start=1):
        finest = number == len(sizes)
        rng = genes if finest else stream(seed, LEVELS, number)
        factors = draw_group_factors(rng, (size, n_genes), *setting)
        levels.append(Level("group" if finest else f"level_{number}", member, factors))
    return levels


def memberships(sizes: list[int]) -> list[np.ndarray]:
    """Group at each level, coarsest first, of each of the finest groups.

    Consecutive groups are combined as evenly as possible, level by level from the finest, so that groups that are
    together at one level are together at all coarser ones.
    """
    member = [np.arange(sizes[-1])]
    for i in range(len(sizes) - 1, 0, -1):
        parents = np.arange(sizes[i]) * sizes[i - 1] // sizes[i]
        member.insert(0, parents[member[0]])
    return member


def draw_counts(truth: Truth, seed: int) -> dict[str, sparse.csr_matrix]:
    """Counts of all cells as X and, with dropout, the counts before dropout as true_counts."""
    blocks = list(draw_blocks(truth, seed))
    # blocks are freed as they are joined
    return {name: sparse.vstack([block.pop(name) for block in blocks], format="csr") for name in list(blocks[0])}


def draw_blocks(truth: Truth, seed: int) -> Iterator[dict[str, sparse.csr_matrix]]:
    """The counts of :func:`draw_counts`, some cells at a time."""

    def draw(start: int) -> dict[str, sparse.csr_matrix]:
        rng = stream(seed, COUNTS, start // CELLS_PER_DRAW)
        rate = truth.expected(slice(start, start + CELLS_PER_DRAW), seed)
        truth.bcv.scatter(rate, rng)
        counts = sparse.csr_matrix(rng.poisson(rate).astype(np.float32))
        return {"X": counts} if truth.dropout is None else dropped(counts, rate, truth.dropout, rng)

    starts = range(0, len(truth.group), CELLS_PER_DRAW)
    # the generators release the GIL while sampling; results keep the order of the cells
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        for first in range(0, len(starts), DRAWS_AT_ONCE):
            yield from pool.map(draw, starts[first : first + DRAWS_AT_ONCE])


def dropped(counts: sparse.csr_matrix, rate: np.ndarray, dropout: tuple[float, float], rng) -> dict:
    """Counts after dropout, which is more likely for lower means, and the counts before it."""
    mid, shape = dropout
    found = counts.tocoo()
    lost = rng.random(counts.nnz) < expit(shape * (np.log(rate[found.row, found.col]) - mid))
    kept = counts.copy()
    kept.data[lost] = 0
    kept.eliminate_zeros()
    return {"X": kept, "true_counts": counts}
