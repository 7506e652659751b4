"""Gamma distribution of gene means with outliers, by maximum likelihood of winsorised logarithms of means."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import optimize, special, stats

MOST_GENES = 2000
"""Genes that the likelihood is computed of, evenly by rank where there are more."""
LEAST_COUNT = 10
"""Molecules of a gene from which its mean is used."""
LOW = 0.1
"""Quantile below which only the number of genes counts, not their means."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
TINY = 1e-300
FEWEST_OUTLIERS = 5
LEAST_OUTLIERS = 10.0
"""Gain of the log-likelihood by outliers from which they are believed: three parameters, at a level of 0.0002."""


def fit_means(mean: np.ndarray, noise: np.ndarray, count: np.ndarray) -> dict[str, float]:
    """Shape and rate of a gamma distribution of the gene means, and the parameters of outliers, if there are any.

    ``mean`` are observed, with the error ``noise`` (standard deviation of the logarithm) from ``count`` molecules:
    arrays of shape (n_genes,). The lowest tenth, and genes of fewer than ten molecules, are censored.
    """
    likelihood = Likelihood.of(mean, noise, count)
    start, far = _start(likelihood.y)
    plain = _minimised(likelihood.loss, start)
    found = {"mean_shape": float(np.exp(plain.x[0])), "mean_rate": float(np.exp(plain.x[1]))}
    if len(far) < FEWEST_OUTLIERS:
        return found
    share = np.clip(len(far) / len(likelihood.y), 0.01, 0.5)
    sizes = far - np.log(np.median(mean))
    begin = [*start, special.logit(share), np.log(sizes.mean()), np.log(max(sizes.std(), 0.1))]
    more = _minimised(likelihood.loss_with_outliers, begin)
    if plain.fun - more.fun < LEAST_OUTLIERS:
        return found
    shape, rate, location, scale = np.exp(more.x[[0, 1, 3, 4]]).tolist()
    return {
        "mean_shape": shape,
        "mean_rate": rate,
        "outlier_probability": float(special.expit(more.x[2])),
        "outlier_location": location,
        "outlier_scale": scale,
    }


@dataclass(frozen=True)
class Likelihood:
    """Of logarithms of means; those below a floor are only counted."""

    y: np.ndarray
    """Logarithms of the means above the floor, of at most :data:`MOST_GENES` of them."""
    noise: np.ndarray
    """Their standard errors."""
    each: float
    """Number of genes that each stands for."""
    floor: float
    """Logarithm of the floor."""
    n_below: int

    @classmethod
    def of(cls, mean: np.ndarray, noise: np.ndarray, count: np.ndarray) -> Likelihood:
        """With the floor at the lowest tenth, or where genes have enough molecules."""
        floor = max(np.quantile(mean, LOW), np.min(mean[count >= LEAST_COUNT], initial=np.inf))
        floor = floor if np.isfinite(floor) else np.median(mean[mean > 0])
        seen = mean >= floor
        order = np.argsort(mean)
        order = order[seen[order]]
        taken = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), MOST_GENES)).astype(int))]
        y = np.log(mean[taken])
        return cls(y, noise[taken], len(order) / len(taken), float(np.log(floor)), int((~seen).sum()))

    @cached_property
    def around(self) -> np.ndarray:
        """Logarithms of true means at the nodes of the errors, an array of shape (n_genes, n_nodes)."""
        return self.y[:, None] - self.noise[:, None] * NODES

    @cached_property
    def around_floor(self) -> np.ndarray:
        """The same of a gene at the floor, with the usual error."""
        return np.exp(self.floor - float(np.median(self.noise)) * NODES)

    def loss(self, values) -> float:
        """Negative log-likelihood of the logarithms of shape and rate."""
        return self._loss(*self._of_gamma(*np.exp(values)))

    def loss_with_outliers(self, values) -> float:
        """The same with the logit of the fraction of outliers, and the logarithms of their location and scale."""
        shape, rate = np.exp(values[:2])
        share, (location, scale) = special.expit(values[2]), np.exp(values[3:])
        over = self.y - np.log(special.gammaincinv(shape, 0.5) / rate)
        outliers = folded(over, location, scale, self.noise, np.hypot(scale, self.noise))
        density, below = self._of_gamma(shape, rate)
        return self._loss((1 - share) * density + share * outliers, (1 - share) * below)

    def _of_gamma(self, shape: float, rate: float) -> tuple[np.ndarray, float]:
        """Density of each logarithm, and the probability of a mean below the floor."""
        x = self.around
        density = (np.exp(shape * (x + np.log(rate)) - rate * np.exp(x) - special.gammaln(shape))) @ WEIGHTS
        return density, float(special.gammainc(shape, rate * self.around_floor) @ WEIGHTS)

    def _loss(self, density: np.ndarray, below: float) -> float:
        seen = self.each * np.log(np.maximum(density, TINY)).sum()
        return float(-seen - self.n_below * np.log(max(below, TINY)))


def _start(y: np.ndarray) -> tuple[list[float], np.ndarray]:
    """Logarithms of shape and rate by moments of what is not far above the median, and what is (Splatter's rule)."""
    highest = np.median(y) + 2 * stats.median_abs_deviation(y, scale="normal")
    usual = np.exp(y[y < highest])
    ratio = max(np.log(usual.mean()) - np.log(usual).mean(), 1e-3)
    return [np.log(0.5 / ratio), np.log(0.5 / ratio / usual.mean())], y[y > highest]


def _minimised(loss, start) -> optimize.OptimizeResult:
    options = {"maxiter": 2000, "maxfev": 2000, "xatol": 1e-3, "fatol": 1e-3}
    return optimize.minimize(loss, start, method="Nelder-Mead", options=options)


def folded(x, location, scale, noise, width):
    """Density of the absolute value of a normal number plus normal noise."""
    return folded_half(x, location, scale, noise, width) + folded_half(x, -location, scale, noise, width)


def folded_half(x, location, scale, noise, width):
    """Density of the part above 0 of a normal number, plus normal noise; ``width`` is that of their sum."""
    middle = (location * noise**2 + x * scale**2) / width**2
    return stats.norm.pdf(x, location, width) * special.ndtr(middle * width / (scale * noise + 1e-12))
