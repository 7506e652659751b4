"""Distributions of counts given the state: Poisson and negative binomial."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from scipy.special import digamma, gammaln, polygamma

from dbx.ops.hmm.emissions import FEWEST, Data, Params, kept_where_empty, weighted_sums

LOWEST = 1e-10
"""Smallest mean: a state in which a count is impossible could never be left again."""
THETA = 1e-3, 1e6
"""Bounds of theta, between which a negative binomial goes from almost all zeros to a Poisson."""


def distinct(data: Data) -> list[tuple[Data, np.ndarray]]:
    """Of each feature its distinct values with their factors, and for each position which of them it has."""
    found = []
    for feature, row in enumerate(data.values):
        seen = None if data.seen is None else data.seen[feature]
        codes = row if seen is None else np.where(seen, row, -1)
        if data.sizes is None:
            values, which = np.unique(codes, return_inverse=True)
            sizes = None
        else:
            pairs, which = np.unique(np.stack([codes, data.sizes]), axis=1, return_inverse=True)
            values, sizes = pairs
        table = Data(np.maximum(values, 0)[None], None if seen is None else (values >= 0)[None], sizes)
        found.append((table, which.ravel()))
    return found


class Counts:
    """What the families of counts share: they are computed for distinct values only."""

    names: tuple[str, ...]

    def __init__(self, data: Data, overall: np.ndarray, prior: float = 0.0):
        self.tables, self.overall, self.prior = distinct(data), overall, prior

    def fill(self, out: np.ndarray, data: Data, params: Mapping[str, np.ndarray]) -> None:
        tables = self.tables if data.values.shape[1] == len(self.tables[0][1]) else distinct(data)
        for feature, (table, which) in enumerate(tables):
            of_feature = {name: value[:, :, feature, None] for name, value in params.items()}
            logs = self.log_probability(table.values[0], sizes_of(table), of_feature)
            if table.seen is not None:
                logs = np.where(table.seen[0], logs, 0)
            found = logs.astype(out.dtype, copy=False).take(which, axis=2)
            if feature:
                out += found
            else:
                out[...] = found

    def estimated(self, data: Data, posterior: np.ndarray, params: Mapping[str, np.ndarray]) -> Params:
        """Parameters of the largest weighted likelihood; those of an empty state stay."""
        raise NotImplementedError

    def first(self, n_models: int, n_states: int) -> Params:
        """Parameters of the same shape for all states, which an estimate replaces."""
        raise NotImplementedError

    def n_free(self, n_states: int) -> int:
        """Number of free parameters."""
        raise NotImplementedError

    def free(self, params: Mapping[str, np.ndarray]) -> Params:
        """Their logarithms."""
        return {name: np.log(params[name]) for name in self.names}

    def bound(self, free: Mapping[str, np.ndarray]) -> Params:
        """Back from :meth:`free`."""
        lowest = {"theta": THETA}
        return {name: np.clip(np.exp(free[name]), *lowest.get(name, (LOWEST, np.inf))) for name in self.names}

    def slopes(self, data: Data, posterior: np.ndarray, params: Mapping[str, np.ndarray]) -> Params:
        """Derivatives of the weighted log-likelihood and log prior in the logarithms."""
        raise NotImplementedError

    def log_probability(self, x, sizes, params) -> np.ndarray:
        """Of counts, an array of shape (n_values,), for parameters of shape (n_models, n_states, 1)."""
        raise NotImplementedError

    def histograms(self, posterior: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of each feature the distinct values, their factors and their weights (n_models, n_states, n_values).

        The prior is an observation of the overall mean in each state.
        """
        found = []
        flat = posterior.reshape(-1, posterior.shape[2])
        for feature, (table, which) in enumerate(self.tables):
            n = table.values.shape[1]
            weights = np.stack([np.bincount(which, row, n) for row in flat]).reshape(*posterior.shape[:2], n)
            if table.seen is not None:
                weights = weights * table.seen[0]
            values, sizes = table.values[0], sizes_of(table)
            if self.prior:
                values, sizes = np.append(values, self.overall[feature]), np.append(sizes, 1.0)
                weights = np.concatenate([weights, np.full((*weights.shape[:2], 1), self.prior)], axis=2)
            found.append((values, sizes, weights))
        return found

    def log_prior(self, params: Mapping[str, np.ndarray]) -> np.ndarray:
        if not self.prior:
            return np.zeros(len(params[self.names[0]]))
        return self.prior * self.log_probability(self.overall, 1.0, params).sum(axis=(1, 2))


def sizes_of(table: Data) -> np.ndarray:
    """Factors of the means, 1 where there are none."""
    return np.ones(table.values.shape[1]) if table.sizes is None else table.sizes


class Poisson(Counts):
    """Counts with the mean rate x size factor."""

    names = ("rates",)

    def log_probability(self, x, sizes, params):
        mean = params["rates"] * sizes
        return x * np.log(mean) - mean - gammaln(x + 1)

    def estimated(self, data: Data, posterior: np.ndarray, params: Mapping[str, np.ndarray]) -> Params:
        exposure = data.weights() * (1 if data.sizes is None else data.sizes)
        weight, total = weighted_sums(posterior, exposure, data.values)
        found = (total + self.prior * self.overall) / np.maximum(weight + self.prior, FEWEST)
        return kept_where_empty({"rates": np.maximum(found, LOWEST)}, params, weight)

    def slopes(self, data: Data, posterior: np.ndarray, params: Mapping[str, np.ndarray]) -> Params:
        exposure = data.weights() * (1 if data.sizes is None else data.sizes)
        weight, total = weighted_sums(posterior, exposure, data.values)
        return {"rates": total + self.prior * self.overall - (weight + self.prior) * params["rates"]}

    def first(self, n_models: int, n_states: int) -> Params:
        return {"rates": np.ones((n_models, n_states, len(self.overall)))}

    def n_free(self, n_states: int) -> int:
        return n_states * len(self.overall)


class NegativeBinomial(Counts):
    """Counts with mean m x size factor and variance mean + mean^2 / theta."""

    names = ("means", "theta")

    def log_probability(self, x, sizes, params):
        mean, theta = params["means"] * sizes, params["theta"]
        return (
            gammaln(x + theta)
            - gammaln(theta)
            - gammaln(x + 1)
            - theta * np.log1p(mean / theta)
            + x * (np.log(mean) - np.log(theta + mean))
        )

    def estimated(self, data: Data, posterior: np.ndarray, params: Mapping[str, np.ndarray]) -> Params:
        found = {name: np.empty_like(params[name]) for name in self.names}
        weight = np.empty_like(params["means"])
        for feature, (x, sizes, weights) in enumerate(self.histograms(posterior)):
            weight[:, :, feature] = weights.sum(axis=2)
            means, theta = (params[name][:, :, feature] for name in self.names)
            # of the first pass theta is only a start: that of moments is closer
            found["means"][:, :, feature], found["theta"][:, :, feature] = self._one(x, sizes, weights, means, theta)
        return kept_where_empty(found, params, weight)

    def _one(self, x, sizes, weights, means, theta) -> tuple[np.ndarray, np.ndarray]:
        """Mean given theta, then theta given the mean, until neither moves: each raises the weighted likelihood."""
        total = np.maximum(weights.sum(axis=2), FEWEST)
        equal = bool((sizes == 1).all())
        for _ in range(1 if equal else 5):
            for _ in range(1 if equal else 3):
                shrink = 1 if equal else 1 / (1 + sizes * (means / theta)[..., None])
                means = np.maximum((weights * shrink * x).sum(axis=2), LOWEST) / np.maximum(
                    (weights * shrink * sizes).sum(axis=2), FEWEST
                )
            theta = newton_theta(x, sizes, weights / total[..., None], means, theta)
        return means, theta

    def slopes(self, data: Data, posterior: np.ndarray, params: Mapping[str, np.ndarray]) -> Params:
        found = {name: np.empty_like(params[name]) for name in self.names}
        for feature, (x, sizes, weights) in enumerate(self.histograms(posterior)):
            means, theta = (params[name][:, :, feature, None] for name in self.names)
            mean = means * sizes
            apart = (x - mean) / (theta + mean)
            found["means"][:, :, feature] = (weights * theta * apart).sum(axis=2)
            of_theta = digamma(x + theta) - digamma(theta) - np.log1p(mean / theta) - apart
            found["theta"][:, :, feature] = (weights * theta * of_theta).sum(axis=2)
        return found

    def first(self, n_models: int, n_states: int) -> Params:
        shape = (n_models, n_states, len(self.overall))
        return {"means": np.ones(shape), "theta": np.full(shape, 2.0)}

    def n_free(self, n_states: int) -> int:
        return 2 * n_states * len(self.overall)


def newton_theta(x, sizes, weights, means, theta, n_steps: int = 8) -> np.ndarray:
    """Theta of the largest weighted likelihood given the means, by Newton on its logarithm from ``theta`` on.

    A step that would lower the likelihood is halved until it does not.
    """
    lowest, highest = np.log(THETA)
    mean = means[..., None] * sizes
    rate = np.log(mean)

    def likelihood(log_theta):
        t = np.exp(log_theta)[..., None]
        parts = gammaln(x + t) - gammaln(t) - t * np.log1p(mean / t) + x * (rate - np.log(t + mean))
        return (weights * parts).sum(axis=-1)

    log_theta = np.clip(np.log(theta), lowest, highest)
    value = likelihood(log_theta)
    for _ in range(n_steps):
        t = np.exp(log_theta)[..., None]
        slope = digamma(x + t) - digamma(t) - np.log1p(mean / t) + (mean - x) / (t + mean)
        bend = polygamma(1, x + t) - polygamma(1, t) + mean / (t * (t + mean)) - (mean - x) / (t + mean) ** 2
        t = t[..., 0]
        first = t * (weights * slope).sum(axis=-1)
        second = t**2 * (weights * bend).sum(axis=-1) + first
        step = np.where(second < 0, -first / np.where(second < 0, second, -1), np.sign(first))
        step = np.clip(step, -2, 2)
        for _ in range(12):
            moved = np.clip(log_theta + step, lowest, highest)
            better = likelihood(moved)
            worse = better < value
            if not worse.any():
                break
            step = np.where(worse, step / 2, step)
        moved, better = np.where(worse, log_theta, moved), np.where(worse, value, better)
        done = np.abs(moved - log_theta).max() < 1e-7
        log_theta, value = moved, better
        if done:
            break
    return np.exp(log_theta)
