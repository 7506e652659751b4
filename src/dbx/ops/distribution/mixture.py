"""Normal mixtures of many genes at once, by expectation maximisation."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

LEAST_SD = 0.1
"""A component's standard deviation, at least, in units of the gene's own."""
STARTS, SHORT, LONG = 4, 8, 250
"""Starts, their iterations, and those of the best."""
TOLERANCE = 2e-3
"""Gain of log-likelihood in nats from which a gene is iterated further."""
EMPTY = 1e-6
"""Cells of a component that has none."""


class Sample(NamedTuple):
    """Values of genes in units of each gene's standard deviation from its mean."""

    value: np.ndarray
    """Array of shape (n_genes, width)."""
    weight: np.ndarray
    """Cells with this value, an array of shape (n_genes, n_groups, width); 0 for padding."""

    def genes(self, at: np.ndarray) -> Sample:
        """Some of the genes."""
        return Sample(self.value[at], self.weight[at])

    def pooled(self) -> Sample:
        """All groups as one."""
        return Sample(self.value, self.weight.sum(axis=1, keepdims=True))

    def group(self, at: int) -> Sample:
        """One of the groups."""
        return Sample(self.value, self.weight[:, [at]])

    @property
    def sizes(self) -> np.ndarray:
        """Cells of each group, an array of shape (n_genes, n_groups)."""
        return self.weight.sum(axis=2, dtype=np.float64)


class Mixture(NamedTuple):
    """Components of genes: means and standard deviations of shape (n_genes, n_components)."""

    share: np.ndarray
    """Of each group's cells, an array of shape (n_genes, n_groups, n_components); one that is 0 stays 0."""
    mean: np.ndarray
    sd: np.ndarray

    def genes(self, at: np.ndarray) -> Mixture:
        """Components of some of the genes."""
        return Mixture(*(part[at] for part in self))

    @property
    def n_components(self) -> int:
        return self.mean.shape[1]

    def log_likelihood(self, sample: Sample) -> np.ndarray:
        """Of the values of each gene, in nats, an array of shape (n_genes,), float64."""
        mixed = np.maximum(self.share @ _densities(sample.value, self.mean, self.sd), 1e-30)
        return (sample.weight * np.log(mixed)).sum(axis=(1, 2), dtype=np.float64)


def fit_mixture(sample: Sample, n_components: int, rng: np.random.Generator | None, *, equal: bool) -> Mixture:
    """The best of several starts: quantiles and, with ``rng``, k-means++.

    ``equal``: the components of a gene have one variance.
    """
    n_genes, n_groups = sample.weight.shape[:2]
    if n_components == 1:
        start = Mixture(np.ones((n_genes, n_groups, 1)), np.zeros((n_genes, 1)), np.ones((n_genes, 1)))
        return Mixture(*(part.astype(np.float32) for part in _update(sample, start, None)))
    starts = [_start(sample, centres) for centres in _centres(sample, n_components, rng)]
    many = Sample(*(np.concatenate([part] * len(starts)) for part in sample))
    tried = iterate(many, Mixture(*map(np.concatenate, zip(*starts, strict=True))), equal=equal, n_iter=SHORT)
    best = tried.log_likelihood(many).reshape(len(starts), n_genes).argmax(axis=0)
    return iterate(sample, tried.genes(best * n_genes + np.arange(n_genes)), equal=equal)


def iterate(sample: Sample, start: Mixture, *, equal: bool, n_iter: int = LONG) -> Mixture:
    """Iterate each gene until its log-likelihood stops rising; genes that are done are left out of the next step."""
    found = Mixture(*(part.astype(np.float32) for part in start))
    active, likelihood = np.arange(len(sample.value)), np.full(len(sample.value), -np.inf)
    here, now, going = sample, found, np.ones(len(active), bool)
    for _ in range(n_iter):
        responsible, reached = _responsible(here, now)
        now = _update(here, now, responsible, equal=equal)
        for part, new in zip(found, now, strict=True):
            part[active[going]] = new[going]
        going &= reached - likelihood > TOLERANCE
        likelihood = reached
        if not going.any():
            break
        if going.mean() < 0.8:
            active, here, now, likelihood = active[going], here.genes(going), now.genes(going), likelihood[going]
            going = np.ones(len(active), bool)
    return found


class Responsible(NamedTuple):
    """Of each component for the cells at each value, (n_genes, n_components, width), and its cells in each group."""

    cells: np.ndarray
    of_group: np.ndarray


def _densities(value: np.ndarray, mean: np.ndarray, sd: np.ndarray) -> np.ndarray:
    """Array of shape (n_genes, n_components, width)."""
    z = (value[:, None] - mean[..., None]) / sd[..., None]
    z *= z
    z *= -0.5
    np.exp(z, out=z)
    z /= (sd * np.sqrt(2 * np.pi))[..., None]
    return z


def _responsible(sample: Sample, now: Mixture) -> tuple[Responsible, np.ndarray]:
    """Expectation step, and the log-likelihood before it."""
    density = _densities(sample.value, now.mean, now.sd)
    mixed = np.maximum(now.share @ density, 1e-30)
    reached = (sample.weight * np.log(mixed)).sum(axis=(1, 2), dtype=np.float64)
    ratio = sample.weight / mixed
    of_group = now.share * (ratio @ density.transpose(0, 2, 1))
    density *= now.share.transpose(0, 2, 1) @ ratio
    return Responsible(density, of_group), reached


def _update(sample: Sample, now: Mixture, responsible: Responsible | None, *, equal: bool = False) -> Mixture:
    """Maximisation step; without responsibilities the one component has all cells."""
    if responsible is None:
        responsible = Responsible(sample.weight.sum(axis=1, keepdims=True), sample.weight.sum(axis=2)[..., None])
    cells, value = responsible.cells, sample.value
    size = cells.sum(axis=2)
    there = size > EMPTY
    size = np.maximum(size, EMPTY)
    total = (cells @ value[..., None])[..., 0]
    squares = (cells @ (value * value)[..., None])[..., 0]
    mean = total / size
    scatter = np.maximum(squares - mean * total, 0)
    pooled = scatter.sum(axis=1, keepdims=True) / size.sum(axis=1, keepdims=True)
    variance = np.broadcast_to(pooled, mean.shape) if equal else scatter / size
    return Mixture(
        responsible.of_group / np.maximum(sample.weight.sum(axis=2), EMPTY)[..., None],
        np.where(there, mean, now.mean),
        np.where(there, np.sqrt(np.maximum(variance, LEAST_SD**2)), now.sd),
    )


def _centres(sample: Sample, n_components: int, rng: np.random.Generator | None):
    """Quantiles of each gene, then centres drawn as k-means++ does; arrays of shape (n_genes, n_components)."""
    weight = sample.weight.sum(axis=1)
    gene = np.arange(len(weight))
    seen = np.cumsum(weight, axis=1)

    def at(levels: np.ndarray, cumulated: np.ndarray) -> np.ndarray:
        return np.minimum((cumulated < levels[:, None]).sum(axis=1), weight.shape[1] - 1)

    shares = (np.arange(n_components) + 0.5) / n_components
    yield np.stack([sample.value[gene, at(share * seen[:, -1], seen)] for share in shares], axis=1)
    if rng is None:
        return
    for _ in range(STARTS - 1):
        chosen: list[np.ndarray] = []
        apart = np.ones_like(weight)
        for _ in range(n_components):
            odds = np.cumsum(weight * apart, axis=1)
            chosen.append(sample.value[gene, at(rng.random(len(gene)) * odds[:, -1], odds)])
            squared = (sample.value - chosen[-1][:, None]) ** 2
            apart = squared if len(chosen) == 1 else np.minimum(apart, squared)
        yield np.sort(np.stack(chosen, axis=1), axis=1)


def _start(sample: Sample, centres: np.ndarray) -> Mixture:
    """Each value to the nearest centre."""
    nearest = np.abs(sample.value[:, None] - centres[..., None]).argmin(axis=1)
    own = nearest[:, None] == np.arange(centres.shape[1])[:, None]
    cells = own * sample.weight.sum(axis=1, keepdims=True)
    one = Mixture(np.ones((len(centres), 1, centres.shape[1]), np.float32), centres, np.full_like(centres, 0.5))
    near = _update(sample, one, Responsible(cells, cells.sum(axis=2)[:, None]))
    size = cells.sum(axis=2) + 1
    share = np.repeat((size / size.sum(axis=1, keepdims=True))[:, None], sample.weight.shape[1], axis=1)
    return Mixture(share, near.mean, np.maximum(near.sd, 2 * LEAST_SD))
