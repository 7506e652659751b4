"""Comparison of two conditions gene by gene: statistics and p-values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import special

from dbx.ops.differential.gene_columns import Columns
from dbx.ops.distribution.anderson_darling import anderson_darling, anderson_darling_pvalues
from dbx.ops.distribution.component_shares import ComponentScores, cauchy, component_pvalues, component_scores
from dbx.ops.distribution.distances import energy, energy_pvalues, wasserstein
from dbx.ops.distribution.kolmogorov_smirnov import kolmogorov_smirnov, kolmogorov_smirnov_pvalues
from dbx.ops.distribution.ordered import Counted, Ordered, counted, ordered
from dbx.ops.distribution.permutations import permutation_pvalue
from dbx.ops.distribution.samples import sample_width, scaled_sample
from dbx.ops.distribution.spread import spread_pvalues
from dbx.ops.distribution.zero_rates import ZeroModel, zero_model, zero_pvalues, zero_statistics

FEW_ZEROS = 5
"""Fewer zeros of a gene are compared as values: a test of their own would have no power."""
FEWEST = 2
"""Values of each condition, at least, for a comparison of values."""
SPREAD = 0.2
"""Weight of the test of spread, to which Anderson-Darling's responds little: cells of one condition on both sides of
those of the other."""
LEAST = 1e-300


class Statistic(NamedTuple):
    """A distance of two distributions."""

    value: Callable[[Ordered, Counted], np.ndarray]
    pvalues: Callable[[Ordered, Counted, np.ndarray], np.ndarray] | None
    squared: bool
    """Whether its square, times the number of cells, has an exponential tail rather than itself."""


STATISTICS = {
    "two_part": Statistic(anderson_darling, anderson_darling_pvalues, squared=False),
    "anderson_darling": Statistic(anderson_darling, anderson_darling_pvalues, squared=False),
    "ks": Statistic(kolmogorov_smirnov, kolmogorov_smirnov_pvalues, squared=True),
    "wasserstein": Statistic(wasserstein, None, squared=True),
    "energy": Statistic(energy, energy_pvalues, squared=True),
}


class Compared(NamedTuple):
    """Results for genes, arrays of shape (n_genes,); NaN where there is nothing to compare."""

    statistic: np.ndarray
    pvalue: np.ndarray
    of_values: np.ndarray
    """P-value of the values alone, for a test in two parts."""
    of_zeros: np.ndarray
    """P-value of the zeros alone."""
    of_components: np.ndarray
    """P-value of the shares of two components, part of that of the values."""
    of_spread: np.ndarray
    """P-value of the spread, part of that of the values."""


class Parts(NamedTuple):
    """What is compared of genes."""

    values: Ordered
    components: ComponentScores
    zeros: ZeroModel
    separate: np.ndarray
    """Genes whose zeros are compared apart from the values, an array of shape (n_genes,), bool."""

    def gene(self, at: int) -> Parts:
        """One gene."""
        return Parts(self.values.gene(at), self.components.gene(at), self.zeros.gene(at), self.separate[[at]])


@dataclass(frozen=True)
class Comparison:
    """How genes are compared."""

    test: str
    zeros: bool
    """Zeros are compared too."""
    second: np.ndarray
    """Array of shape (n_cells,), bool: cells of the second condition."""
    labels: np.ndarray | None
    """Permutations of them, an array of shape (n_perms, n_cells), bool; None for analytic p-values."""

    def zeros_as_values(self, n_zeros: np.ndarray) -> np.ndarray:
        """Genes whose zeros are values like others."""
        return self.zeros & ((n_zeros < FEW_ZEROS) | (self.test != "two_part"))

    def parts(self, genes: Columns, rates: np.ndarray) -> Parts:
        """Prepare genes, whose non-zero values have as groups the rows of their cells; ``rates`` are of cells."""
        n_cells, stored = len(self.second), np.diff(genes.start)
        n_zeros = n_cells - stored
        zero = np.ones((n_cells, len(stored)), bool)
        zero[genes.group, np.repeat(np.arange(len(stored)), stored)] = False
        scaled = scaled_sample(genes, self.second, sample_width(int(stored.max(initial=0))))
        return Parts(
            ordered(genes, self.zeros_as_values(n_zeros), n_cells),
            component_scores(genes, scaled),
            zero_model(zero, rates),
            self.zeros & (n_zeros >= FEW_ZEROS) & (n_zeros < n_cells),
        )

    def __call__(self, parts: Parts) -> Compared:
        """Compare genes."""
        found = self._analytic(parts)
        if self.labels is None:
            return found
        n_genes = len(parts.separate)
        return found._replace(pvalue=np.array([self._permuted(parts.gene(i), self.labels) for i in range(n_genes)]))

    def _analytic(self, parts: Parts) -> Compared:
        statistic, genes = STATISTICS[self.test], parts.values
        counts = counted(genes, self.second)
        if self.test == "two_part":
            of_values, of_components, of_spread = _of_values(parts, counts, self.second)
            of_zeros = _of_zeros(parts, self.second)
            return Compared(*fisher(of_values, of_zeros), of_values, of_zeros, of_components, of_spread)
        enough = np.minimum(counts.total, genes.n - counts.total) >= FEWEST
        found = np.where(enough, statistic.value(genes, counts), np.nan)
        none = np.full(found.shape, np.nan)
        pvalue = none if statistic.pvalues is None else np.maximum(statistic.pvalues(genes, counts, found), LEAST)
        of_zeros = _of_zeros(parts, self.second)
        return Compared(found, pvalue, none if self.zeros else pvalue, of_zeros, none, none)

    def _permuted(self, gene: Parts, labels: np.ndarray) -> float:
        def statistic(chosen: np.ndarray) -> np.ndarray:
            counts = counted(gene.values, chosen)
            if self.test == "two_part":
                return -np.log(fisher(_of_values(gene, counts, chosen)[0], _of_zeros(gene, chosen))[1])
            found, one = STATISTICS[self.test].value(gene.values, counts), counts.total
            return found**2 * one * (gene.values.n - one) if STATISTICS[self.test].squared else found

        return permutation_pvalue(float(statistic(self.second[None])[0]), statistic, labels)


def _of_values(parts: Parts, counts: Counted, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """P-values of values, and within them of the shares of their components and of their spread."""
    genes = parts.values
    of_values = anderson_darling_pvalues(genes, counts, anderson_darling(genes, counts))
    of_values = np.where(np.minimum(counts.total, genes.n - counts.total) >= FEWEST, of_values, np.nan)
    of_components = component_pvalues(parts.components, chosen)
    of_spread = spread_pvalues(genes, counts)
    of_values = cauchy(cauchy(of_values, of_components), of_spread, SPREAD)
    return np.maximum(of_values, LEAST), of_components, of_spread


def _of_zeros(parts: Parts, chosen: np.ndarray) -> np.ndarray:
    found = zero_statistics(parts.zeros, chosen)
    found = found[:, 0] if chosen.ndim == 2 else found
    return np.where(parts.separate, np.maximum(zero_pvalues(found), LEAST), np.nan)


def fisher(one: np.ndarray, two: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fisher's statistic -2 log(p q) of independent p-values and its p-value; where one is missing, the other."""
    both = ~np.isnan(one) & ~np.isnan(two)
    alone = np.where(np.isnan(one), two, one)
    statistic = -2 * (np.log(alone) + np.where(both, np.log(two), 0.0))
    pvalue = special.chdtrc(4, np.where(both, statistic, 0.0))
    return statistic, np.where(both, np.maximum(pvalue, LEAST), alone)
