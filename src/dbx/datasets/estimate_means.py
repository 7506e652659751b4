"""Gamma distribution of gene means with outliers, by maximum likelihood of winsorised logarithms of means."""

from __future__ import annotations

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
LEAST_OUTLIERS = 10.0
"""Gain of the log-likelihood by outliers from which they are believed: three parameters, at a level of 0.0002."""


def fit_means(mean: np.ndarray, noise: np.ndarray, count: np.ndarray) -> dict[str, float]:
    """Shape and rate of a gamma distribution of the gene means, and the parameters of outliers, if there are any.

    ``mean`` are observed, with the error ``noise`` (standard deviation of the logarithm) from ``count`` molecules:
    arrays of shape (n_genes,). The lowest tenth, and genes of fewer than ten molecules, are censored.
    """
    floor = max(np.quantile(mean, LOW), np.min(mean[count >= LEAST_COUNT], initial=np.inf))
    floor = floor if np.isfinite(floor) else np.median(mean[mean > 0])
    seen = mean >= floor
    order = np.argsort(mean)
    order = order[seen[order]]
    taken = order[np.unique(np.linspace(0, len(order) - 1, min(len(order), MOST_GENES)).astype(int))]
    y, spread, each = np.log(mean[taken]), noise[taken], len(order) / len(taken)
    n_below, below = int((~seen).sum()), np.log(floor)
    typical = float(np.median(spread))

    def gamma(shape, rate):
        x = y[:, None] - spread[:, None] * NODES
        return (np.exp(shape * (x + np.log(rate)) - rate * np.exp(x) - special.gammaln(shape))) @ WEIGHTS

    def below_floor(shape, rate):
        return float(special.gammainc(shape, rate * np.exp(below - typical * NODES)) @ WEIGHTS)

    def loss(values, outliers):
        shape, rate = np.exp(values[:2])
        density, under = gamma(shape, rate), below_floor(shape, rate)
        if outliers:
            share, (location, scale) = special.expit(values[2]), np.exp(values[3:])
            centre = np.log(special.gammaincinv(shape, 0.5) / rate)
            over = y - centre
            width = np.hypot(scale, spread)
            folded = _folded(over, location, scale, spread, width)
            density, under = (1 - share) * density + share * folded, (1 - share) * under
        return -each * np.log(np.maximum(density, 1e-300)).sum() - n_below * np.log(max(under, 1e-300))

    # start from the moments of what is not far above the median, where outliers are (Splatter's rule)
    centre, mad = np.median(y), stats.median_abs_deviation(y, scale="normal")
    usual = np.exp(y[y < centre + 2 * mad])
    ratio = max(np.log(usual.mean()) - np.log(usual).mean(), 1e-3)
    start = [np.log(0.5 / ratio), np.log(0.5 / ratio / usual.mean())]
    options = {"maxiter": 2000, "maxfev": 2000, "xatol": 1e-3, "fatol": 1e-3}
    plain = optimize.minimize(loss, start, args=(False,), method="Nelder-Mead", options=options)
    found = {"mean_shape": float(np.exp(plain.x[0])), "mean_rate": float(np.exp(plain.x[1]))}
    far = y[y > centre + 2 * mad] - np.log(np.median(mean))
    if len(far) < 5:
        return found
    begin = [
        *start,
        special.logit(np.clip(len(far) / len(y), 0.01, 0.5)),
        np.log(far.mean()),
        np.log(max(far.std(), 0.1)),
    ]
    more = optimize.minimize(loss, begin, args=(True,), method="Nelder-Mead", options=options)
    if plain.fun - more.fun < LEAST_OUTLIERS:
        return found
    shape, rate = np.exp(more.x[:2])
    found = {
        "mean_shape": float(shape),
        "mean_rate": float(rate),
        "outlier_probability": float(special.expit(more.x[2])),
    }
    return found | {"outlier_location": float(np.exp(more.x[3])), "outlier_scale": float(np.exp(more.x[4]))}


def _folded(x, location, scale, noise, width):
    """Density of the absolute value of a normal number plus normal noise."""
    return folded_half(x, location, scale, noise, width) + folded_half(x, -location, scale, noise, width)


def folded_half(x, location, scale, noise, width):
    """Density of the part above 0 of a normal number, plus normal noise; ``width`` is that of their sum."""
    middle = (location * noise**2 + x * scale**2) / width**2
    return stats.norm.pdf(x, location, width) * special.ndtr(middle * width / (scale * noise + 1e-12))
