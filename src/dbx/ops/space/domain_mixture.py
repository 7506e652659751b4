"""The mixture that divides cells into domains: its fit, the number of its components and their order."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

from dbx.ops.clusters.kmeans import best_kmeans
from dbx.ops.clusters.tied_mixture import TiedMixture, of_partition, tied_mixture
from dbx.ops.operator import Progress

Cluster = Literal["gmm", "kmeans", "leiden"]
CLUSTERS = ("gmm", "kmeans", "leiden")
SHRINKAGE = 0.9
"""Along axes of equal variance the noise of neighbour means is nearly the same in all directions."""
MOST_DOMAINS = 15


class Chosen(NamedTuple):
    """A mixture, and the criterion of all that were compared."""

    mixture: TiedMixture
    criterion: np.ndarray
    """Number of domains and Bayesian information criterion, an array of shape (2, n)."""


def choose_mixture(
    x: np.ndarray,
    n_domains: int | None,
    *,
    cluster: Cluster,
    n_init: int,
    n_independent: float,
    seed: int,
    progress: Progress,
) -> Chosen:
    """The mixture with ``n_domains`` components, or with the number of least Bayesian information criterion.

    ``n_independent`` is the number of independent cells that the smoothed ones are worth.
    """
    if cluster == "leiden":
        mixture = _of_leiden(x, n_domains, seed)
        return Chosen(mixture, np.array([[len(mixture.means)], [mixture.bic(n_independent)]]))
    numbers = [n_domains] if n_domains else list(range(1, min(MOST_DOMAINS, len(x) - 1) + 1))
    found = []
    for i, number in enumerate(numbers):
        progress(i, len(numbers), f"{number} domains" if i else "")
        found.append(_mixture(x, number, cluster, n_init, seed))
    criterion = np.array([one.bic(n_independent) for one in found])
    best = int(criterion.argmin())
    if n_domains is None:
        note = f"{numbers[best]} domains: the least Bayesian information criterion of 1 to {numbers[-1]}"
        progress(0, len(numbers), note)
    return Chosen(found[best], np.array([numbers, criterion]))


def _mixture(x, number: int, cluster: Cluster, n_init: int, seed: int) -> TiedMixture:
    if cluster == "gmm":
        return tied_mixture(x, number, shrinkage=SHRINKAGE, n_init=n_init, seed=seed)
    labels = best_kmeans(x, number, n_init=n_init, max_iter=300, seed=seed).labels
    return of_partition(x, labels, number, shrinkage=1.0)


def _of_leiden(x, n_domains: int | None, seed: int) -> TiedMixture:
    """Communities among the nearest cells on the axes, at the resolution that gives the number of domains."""
    from dbx.ops.space.communities import communities

    labels = communities(x, n_domains, seed=seed)
    return of_partition(x, labels, int(labels.max()) + 1, shrinkage=SHRINKAGE)
