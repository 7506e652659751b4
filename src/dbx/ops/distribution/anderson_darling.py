"""The two-sample Anderson-Darling test with ties."""

from __future__ import annotations

from functools import cache

import numpy as np

from dbx.ops.distribution.bridge import bridge_moments
from dbx.ops.distribution.ordered import Counted, Ordered

INTERVALS, NODES = 40, 12
LIMIT_SD = float(np.sqrt(2 * (np.pi**2 - 9) / 3))
"""Standard deviation of the limiting distribution, whose mean is 1."""
LEAST = 0.1
"""The limiting distribution is above this with a probability of almost 1."""


def anderson_darling(genes: Ordered, counts: Counted) -> np.ndarray:
    """A^2 with midranks (Scholz and Stephens, J. Am. Stat. Assoc., 1987, equation 7); its mean is 1.

    NaN where a condition has no cell or all values are one tie.
    """
    weight, middle, spread = _terms(genes)
    n, n_one = genes.n[:, None], counts.total[:, None]
    apart = counts.below + counts.upto - middle * (2 * n_one / np.maximum(n, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        per_square = np.where(weight > 0, weight / spread, 0.0) * (n * n / 4 * (n - 1))
        apart *= apart
        total = apart @ per_square[0] if len(per_square) == 1 else np.einsum("ij,ij->i", apart, per_square)
        varies = np.where(genes.last.sum(axis=1) > 1, 1, np.nan)
        return varies * total / (n_one * (n - n_one))[:, 0]


def anderson_darling_pvalues(genes: Ordered, counts: Counted, found: np.ndarray) -> np.ndarray:
    """P-values of A^2, by the limiting distribution with the variance under permutations."""
    variance = bridge_moments(genes.n, *_terms(genes))[1] * _finite(genes.n, counts.total)
    with np.errstate(divide="ignore", invalid="ignore"):
        return survival(1 + (found - 1) * LIMIT_SD / np.sqrt(variance))


def survival(z: np.ndarray) -> np.ndarray:
    """P(A > z) for A = sum_j chi2_1 / (j (j + 1)), exact also far in the tail (Smirnov's formula)."""
    z = np.asarray(z, float)
    node, factor = _nodes()
    terms = np.exp(-np.maximum(z, LEAST)[..., None] / 2 * node) @ factor
    return np.where(np.isnan(z), np.nan, np.where(z < LEAST, 1.0, np.clip(terms, 0, 1)))


def _terms(genes: Ordered) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weight of each tie, its midrank, and n^2 (n - 1) / (n_1 n_2) times the variance of the count up to it."""
    n = genes.n[:, None]
    middle = np.where(genes.last, genes.upto - genes.size / 2, 0.0)
    spread = middle * (n - middle) - n * genes.size / 4
    return np.where(spread > 0, genes.size / np.maximum(n, 1), 0.0), middle, spread


def _finite(n: np.ndarray, n_one: np.ndarray) -> np.ndarray:
    """Variance of A^2 without ties over that of its normal approximation at the same n."""
    pairs = np.broadcast_arrays(n, n_one)
    return np.array([_ratio(int(total), int(one)) for total, one in zip(*pairs, strict=True)])


@cache
def _ratio(n: int, n_one: int) -> float:
    """The variance is equation 6 of Scholz and Stephens for two samples."""
    if n < 5 or not 0 < n_one < n:
        return 1.0
    at = np.arange(1, n)
    h = (1 / at).sum()
    g = (np.cumsum(1 / at[::-1])[:-1] / at[1:]).sum()
    heft = 1 / n_one + 1 / (n - n_one)
    a = (4 * g - 6) + (10 - 6 * g) * heft
    b = (2 * g - 4) * 4 + 8 * h * 2 + (2 * g - 14 * h - 4) * heft - 8 * h + 4 * g - 6
    c = (6 * h + 2 * g - 2) * 4 + (4 * h - 4 * g + 6) * 2 + (2 * h - 6) * heft + 4 * h
    d = (2 * h + 6) * 4 - 4 * h * 2
    exact = (a * n**3 + b * n**2 + c * n + d) / ((n - 1.0) * (n - 2) * (n - 3))
    weight = np.full((1, n - 1), 1 / (n - 1))
    return float(exact / bridge_moments(np.array([n]), weight, at[None], (at * (n - at))[None])[1][0])


@cache
def _nodes() -> tuple[np.ndarray, np.ndarray]:
    """Points and weights: between the inverse eigenvalues 2k(2k-1) and 2k(2k+1), singular as (1 - t^2)^-1/2."""
    k = np.arange(1, INTERVALS + 1)[:, None]
    low, high = 2.0 * k * (2 * k - 1), 2.0 * k * (2 * k + 1)
    t = np.cos((2 * np.arange(1, NODES + 1) - 1) * np.pi / (2 * NODES))
    u = (low + high) / 2 + (high - low) / 2 * t
    product = np.abs(np.cos(np.pi / 2 * np.sqrt(1 + 4 * u))) / (np.pi * u)
    factor = np.sqrt((u - low) * (high - u) / product) / u / NODES
    return u.ravel(), (np.where(k % 2 == 1, 1.0, -1.0) * factor).ravel()
