"""One sample's observed cells and simulated doublets in their common coordinates, as in Scrublet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx._warnings import warn
from dbx.ops.droplets.doublet_neighbours import doublet_score, in_blocks
from dbx.ops.droplets.doublet_space import (
    MIN_CELLS,
    MIN_GENES,
    Filtered,
    Recipe,
    Space,
    coordinates,
    filtered,
    fitted_space,
    normalised,
    to_total,
    variable_genes,
)
from dbx.ops.droplets.simulated_pairs import draw_pairs, summed


class Simulation(NamedTuple):
    """How doublets are simulated."""

    ratio: float
    """Doublets per cell."""
    kept: float
    """Probability with which each count of a doublet is kept."""


@dataclass(frozen=True)
class Simulated:
    """Doublets that were simulated before, normalised like the cells."""

    x: sparse.csr_matrix
    pairs: np.ndarray
    """Array of shape (n_doublets, 2): rows of the cells among those of the sample."""
    ratio: float | None
    """Doublets per cell, if known."""


@dataclass(frozen=True)
class Sample:
    """Where the cells and doublets of one sample are."""

    name: str
    genes: np.ndarray
    """Array of shape (n_genes,), bool: genes that count in the filter of cells."""
    space: Space
    observed: np.ndarray
    """Array of shape (n_observed, n_comps): the cells that pass the filter."""
    simulated: np.ndarray
    pairs: np.ndarray
    n_neighbors: int
    """Observed neighbours of a cell."""

    @property
    def ratio(self) -> float:
        """Simulated doublets per observed cell."""
        return len(self.simulated) / len(self.observed)

    @property
    def k(self) -> int:
        """Neighbours among cells and doublets, the cell itself being one."""
        return round(self.n_neighbors * (1 + self.ratio))

    @property
    def points(self) -> np.ndarray:
        """The cells, then the doublets."""
        return np.concatenate([self.observed, self.simulated])

    def nearest_to(self, queries: np.ndarray, metric: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The ``k`` nearest points of some queries at a time: numbers of doublets or, below 0, cells; and distances."""
        for index, distance in in_blocks(queries, self.points, self.k, metric):
            yield index - len(self.observed), distance

    def scores_of_observed(self, rate: float, metric: str) -> np.ndarray:
        """Scores of the cells."""
        return np.asarray(doublet_score(self._doublets_near(self.observed, metric), self.k, self.ratio, rate))

    def scores_of_simulated(self, rate: float, metric: str) -> np.ndarray:
        """Scores of the doublets.

        As in scanpy, a doublet is one of its own neighbours unless any two points coincide, such as the doublets of
        two cells in either order. The thresholds are then the same, too.
        """
        near = self._doublets_near(self.simulated, metric)
        if len(np.unique(self.points, axis=0)) < len(self.points):
            near = near - 1
        return np.asarray(doublet_score(near, self.k, self.ratio, rate))

    def _doublets_near(self, points: np.ndarray, metric: str) -> np.ndarray:
        return np.concatenate([(index >= 0).sum(axis=1) for index, _ in self.nearest_to(points, metric)])

    def parents_near(self, metric: str) -> list[np.ndarray]:
        """For each observed cell, the cells that the doublets among its neighbours are made of."""
        nearest = self.nearest_to(self.observed, metric)
        return [np.unique(self.pairs[row[row >= 0]]) for index, _ in nearest for row in index]


def fitted_sample(
    counts: sparse.csr_matrix,
    name: str,
    *,
    recipe: Recipe,
    simulation: Simulation,
    given: Simulated | None,
    n_neighbors: int | None,
    seed: int,
) -> Sample:
    """Filter, simulate, normalise, and fit the coordinates."""
    if given is None:
        kept = filtered(counts)
        check_kept(kept, name)
        genes, found = kept.genes, _normalised(kept, name, recipe, simulation, np.random.RandomState(seed))
    else:
        genes = np.ones(counts.shape[1], bool)
        found = np.arange(counts.shape[1]), 1.0, counts, given.x, given.pairs
    columns, depth, observed, simulated, pairs = found
    space = fitted_space(observed, columns, depth, with_possible_comps(recipe, observed.shape, name))
    placed = coordinates(observed, space), coordinates(simulated, space)
    return Sample(name, genes, space, *placed, pairs, _checked_neighbors(n_neighbors, observed.shape[0], name))


def _normalised(kept: Filtered, name: str, recipe: Recipe, simulation: Simulation, random: np.random.RandomState):
    """Variable genes, depth, cells and doublets in these genes, normalised, and the pairs."""
    at_depth, depth = to_total(kept.counts, None)
    chosen = np.flatnonzero(variable_genes(at_depth))
    if len(chosen) < MIN_GENES:
        msg = (
            f"scrublet finds {len(chosen)} highly variable genes{_of(name)} and needs {MIN_GENES}: pass the counts of "
            "more genes."
        )
        raise ValueError(msg)
    counts = kept.counts[:, chosen]
    pairs = draw_pairs(counts.shape[0], simulation.ratio, random)
    simulated = summed(counts, pairs, simulation.kept, random)
    both = normalised(at_depth[:, chosen], recipe), normalised(simulated, recipe)
    return np.flatnonzero(kept.genes)[chosen], depth, *both, pairs


def check_kept(kept: Filtered, name: str) -> None:
    """Raise ValueError if the filters leave next to nothing."""
    if kept.genes.sum() < MIN_GENES or kept.cells.sum() < 2:
        msg = (
            f"scrublet keeps genes in at least {MIN_CELLS} cells, and cells with at least {MIN_GENES} of these genes. "
            f"This leaves {kept.genes.sum()} genes and {kept.cells.sum()} cells{_of(name)}; at least {MIN_GENES} genes "
            "and 2 cells are needed."
        )
        raise ValueError(msg)


def with_possible_comps(recipe: Recipe, shape: tuple[int, int], name: str) -> Recipe:
    """With as many components as there can be, which is warned of."""
    most = min(shape[0] - 1, shape[1])
    if recipe.n_comps <= most:
        return recipe
    warn(
        f"{shape[0]} cells and {shape[1]} genes{_of(name)} have {most} components, which are used instead of "
        f"n_prin_comps={recipe.n_comps}. Scores of few cells mean little."
    )
    return replace(recipe, n_comps=most)


def _checked_neighbors(n_neighbors: int | None, n_cells: int, name: str) -> int:
    if n_neighbors is None:
        return max(round(0.5 * np.sqrt(n_cells)), 1)
    if n_neighbors > n_cells:
        msg = f"n_neighbors={n_neighbors} is not possible with {n_cells} cells{_of(name)}: choose at most {n_cells}."
        raise ValueError(msg)
    return n_neighbors


def _of(name: str) -> str:
    return f" of {name!r}" if name else ""
