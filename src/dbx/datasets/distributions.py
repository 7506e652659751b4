"""Genes whose distribution differs between two conditions of simulated cells, in the classes of scDD."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral

import numpy as np

CLASSES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "EE": ((0, 0, 0.5), (0, 0, 0.5)),
    "EP": ((-0.5, 0.5, 0.5), (-0.5, 0.5, 0.5)),
    "DE": ((-0.5, -0.5, 0.5), (0.5, 0.5, 0.5)),
    "DP": ((-0.5, 0.5, 1 / 3), (-0.5, 0.5, 2 / 3)),
    "DM": ((-0.5, -0.5, 0.5), (-0.5, 0.5, 0.5)),
    "DB": ((0, 0, 0.5), (-0.5, 0.5, 0.5)),
}
"""Class -> for each condition two components, in units of their distance, and the share of the second."""


@dataclass(frozen=True)
class Distributions:
    """Condition of each cell, class of each gene, and the two components that a gene has in each condition."""

    condition: np.ndarray
    """Array of shape (n_cells,), int: 0 or 1."""
    category: np.ndarray
    """Array of shape (n_genes,): names of classes."""
    components: np.ndarray
    """Array of shape (2 conditions, 2 components, n_genes): logarithms of factors."""
    share: np.ndarray
    """Array of shape (2 conditions, n_genes): probability of the second component."""

    def factors(self, rng: np.random.Generator, cells: slice) -> np.ndarray:
        """Factors of the means of cells, each of one component: array of shape (n_cells, n_genes)."""
        condition = self.condition[cells]
        second = rng.random((len(condition), len(self.category))) < self.share[condition]
        of = self.components[condition]
        return np.exp(np.where(second, of[:, 1], of[:, 0]))


def check_classes(numbers: Mapping[str, int], n_genes: int) -> None:
    """Raise ValueError for unknown classes, or more genes than there are."""
    if not isinstance(numbers, Mapping):
        msg = (
            "differential_distribution must be a dict of numbers of genes by class, such as "
            f"{{'DE': 10, 'DP': 10}}; got {numbers!r}."
        )
        raise ValueError(msg)
    wrong = [name for name in numbers if name not in CLASSES or name == "EE"]
    if wrong:
        known = ", ".join(repr(name) for name in CLASSES if name != "EE")
        msg = f"differential_distribution must name classes of {known} (all other genes are 'EE'); got {wrong[0]!r}."
        raise ValueError(msg)
    if not all(isinstance(n, Integral) and n >= 0 for n in numbers.values()) or sum(numbers.values()) > n_genes:
        msg = (
            f"differential_distribution must have numbers of genes, no more than n_genes={n_genes} in all; got "
            f"{dict(numbers)}."
        )
        raise ValueError(msg)


def draw_distributions(
    rng: np.random.Generator, numbers: Mapping[str, int], distance: float, n_cells: int, n_genes: int
) -> Distributions:
    """Random genes for each class, half of them with the conditions exchanged, and a random condition of each cell."""
    category = np.full(n_genes, "EE", dtype="U2")
    names = [name for name in CLASSES if name in numbers]  # in an order that files keep
    chosen = np.split(rng.permutation(n_genes), np.cumsum([numbers[name] for name in names]))
    for name, genes in zip(names, chosen, strict=False):
        category[genes] = name
    table = np.array([CLASSES[name] for name in category])  # genes x conditions x (low, high, share)
    exchanged = rng.random(n_genes) < 0.5
    table[exchanged] = table[exchanged][:, ::-1]
    table = np.moveaxis(table, 0, -1)
    return Distributions(rng.integers(2, size=n_cells), category, distance * table[:, :2], table[:, 2])
