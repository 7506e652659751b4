"""Size factors by maximum likelihood, for counts where every gene has a zero (DESeq2's type "iterate")."""

from __future__ import annotations

import numpy as np
from scipy import special

from dbx.data.blocks import RowBlocks
from dbx.ops.de.fit.fit_model import gene_wise_dispersions, share, shrink
from dbx.ops.de.fit.prepare import Settings, prepare_samples
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.operator import Progress, silent

ROUNDS = 10
TOLERANCE = 1e-4
"""The rounds end when the squared change of all log factors together is below this."""
LEFT_OUT = 0.05
"""Share of genes, those with the smallest likelihood, that do not count."""


def iterate_size_factors(counts: RowBlocks, progress: Progress = silent) -> np.ndarray:
    """Size factors with a geometric mean of one, an array of shape (n_samples,).

    In turn dispersions and means of genes are estimated at the present factors, without a design and around a common
    dispersion, and the factors are moved to the maximum of the likelihood of all genes but the 5% it fits worst.

    Parameters
    ----------
    counts
        Counts of shape (n_samples, n_genes).

    Raises
    ------
    ValueError
        A sample has no counts, or genes vary no more than Poisson counts.
    """
    from scipy import optimize

    genes = GeneCounts(counts)
    _check(genes)
    logs = np.zeros(genes.n_samples)
    for done in range(ROUNDS):
        progress(done, ROUNDS, "size factors")
        before = logs
        likelihood = _Likelihood(genes, np.exp(logs))
        # the likelihood depends on differences of the logs alone, so that their mean stays 0
        logs = optimize.minimize(likelihood, logs, jac=True, method="L-BFGS-B").x
        if ((logs - before) ** 2).sum() < TOLERANCE:
            break
    progress(ROUNDS, ROUNDS, "size factors")
    return np.exp(logs)


class _Likelihood:
    """Minus the log likelihood of most genes, and its gradient, as a function of the log factors."""

    def __init__(self, genes: GeneCounts, factors: np.ndarray):
        settings = Settings(np.ones((genes.n_samples, 1)), factors, fit_type="mean")
        data = prepare_samples(genes, settings)
        gene_wise, means = gene_wise_dispersions(data, settings)
        shared = share(data.mean, gene_wise, settings)
        self.genes, self.means, self.factors = genes, means, factors
        self.dispersion = shrink(data, means, gene_wise, shared, settings).final[:, None]
        self.fixed = np.empty(len(genes))
        for at, y in genes.parts():
            size = 1 / self.dispersion[at]
            terms = special.gammaln(y + size) - special.gammaln(size) - special.gammaln(y + 1)
            self.fixed[at] = (terms - y * np.log(size)).sum(axis=1)

    def __call__(self, logs: np.ndarray) -> tuple[float, np.ndarray]:
        ratio = np.exp(logs - logs.mean()) / self.factors
        height, slope = self.fixed.copy(), np.zeros(len(logs))
        for at, y in self.genes.parts():
            mu, dispersion = self.means(at) * ratio, self.dispersion[at]
            height[at] += (y * np.log(mu) - (y + 1 / dispersion) * np.log1p(dispersion * mu)).sum(axis=1)
            slope += _slope(y, mu, dispersion)
        kept = height > np.quantile(height, LEFT_OUT)
        worst = np.flatnonzero(~kept)
        for at in np.array_split(worst, len(worst) // self.genes.block_size + 1):
            slope -= _slope(self.genes.take(at), self.means(at) * ratio, self.dispersion[at])
        return -height[kept].sum(), slope.mean() - slope


def _slope(y, mu, dispersion) -> np.ndarray:
    """Derivative of the log likelihood of some genes in the log factors, an array of shape (n_samples,)."""
    return ((y - mu) / (1 + dispersion * mu)).sum(axis=0)


def _check(genes: GeneCounts) -> None:
    totals = np.zeros(genes.n_samples)
    for _, y in genes.parts():
        totals += y.sum(axis=0)
    empty = np.flatnonzero(totals == 0)
    if len(empty):
        msg = f"{len(empty)} samples have no counts at all (the first is number {empty[0]}): filter them out first."
        raise ValueError(msg)
