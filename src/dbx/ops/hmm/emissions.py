"""Distributions of the data given the state: log-probabilities and their maximum-likelihood estimates.

Parameters have a first axis of models, which are fitted side by side; probabilities have the shape (n_models, n_states,
n_positions) of messages. Features are independent given the state; a missing value has probability 1 in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dbx.ops.hmm.messages import BLOCK

Params = dict[str, np.ndarray]
FEWEST = 1e-8
"""Expected positions of a state below which it keeps its parameters."""


@dataclass(frozen=True)
class Data:
    """What is observed, in the order of the positions that are swept."""

    values: np.ndarray
    """Array of shape (n_features, n_positions), zero where missing; codes of symbols as integers, -1 where missing."""
    seen: np.ndarray | None = None
    """Whether a value is there; None if all are."""
    sizes: np.ndarray | None = None
    """Factor of the mean of counts at each position; None for 1."""

    def at(self, index: np.ndarray | slice) -> Data:
        """Some positions."""
        seen = None if self.seen is None else self.seen[:, index]
        return Data(self.values[:, index], seen, None if self.sizes is None else self.sizes[index])

    def weights(self) -> np.ndarray:
        """1 for each value that is there."""
        return np.ones(self.values.shape) if self.seen is None else self.seen.astype(np.float64)

    @classmethod
    def of(cls, x: np.ndarray, sizes: np.ndarray | None = None) -> Data:
        """Data from an array of shape (n_features, n_positions) with NaN for missing values."""
        missing = np.isnan(x)
        if not missing.any():
            return cls(np.ascontiguousarray(x), None, sizes)
        return cls(np.where(missing, 0, x), ~missing, sizes)


class Emission(Protocol):
    """A family of distributions."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its parameters, the first of which orders states."""

    def fill(self, out: np.ndarray, data: Data, params: Mapping[str, np.ndarray]) -> None:
        """Write log-probabilities into an array of shape (n_models, n_states, n_positions)."""

    def estimated(self, data: Data, posterior: np.ndarray, params: Mapping[str, np.ndarray]) -> Params:
        """Parameters of the largest weighted likelihood; those of an empty state stay."""

    def log_prior(self, params: Mapping[str, np.ndarray]) -> np.ndarray:
        """Logarithm of the prior up to a constant, an array of shape (n_models,)."""

    def first(self, n_models: int, n_states: int) -> Params:
        """Parameters of the same shape for all states, which an estimate replaces."""

    def n_free(self, n_states: int) -> int:
        """Number of free parameters."""

    def free(self, params: Mapping[str, np.ndarray]) -> Params:
        """The same parameters without bounds: logits, logarithms, means in deviations of the data."""

    def bound(self, free: Mapping[str, np.ndarray]) -> Params:
        """Back from :meth:`free`."""

    def slopes(self, data: Data, posterior: np.ndarray, params: Mapping[str, np.ndarray]) -> Params:
        """Derivatives of the weighted log-likelihood and log prior in what :meth:`free` returns."""


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis, 0 where a logit is -inf."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def weighted_sums(posterior: np.ndarray, *columns: np.ndarray) -> list[np.ndarray]:
    """Sums over positions of posterior times each array of shape (n_features, n_positions), in float64.

    Each has the shape (n_models, n_states, n_features).
    """
    totals = [np.zeros((*posterior.shape[:2], len(column))) for column in columns]
    for start in range(0, posterior.shape[2], BLOCK):
        part = posterior[:, :, start : start + BLOCK].astype(np.float64, copy=False)
        for total, column in zip(totals, columns, strict=True):
            total += part @ column[:, start : start + BLOCK].T
    return totals


def kept_where_empty(found: Params, before: Mapping[str, np.ndarray], weight: np.ndarray) -> Params:
    """Old parameters for states, or features of states, without any position."""
    empty = weight < FEWEST
    return {
        name: np.where(empty if value.shape == empty.shape else empty.all(axis=-1, keepdims=True), before[name], value)
        for name, value in found.items()
    }


class Categorical:
    """Symbols 0 to n_symbols - 1."""

    names = ("emissionprob",)

    def __init__(self, n_symbols: int, prior: float = 0.0):
        self.n_symbols, self.prior = n_symbols, prior

    def fill(self, out, data, params):
        with np.errstate(divide="ignore"):
            logs = np.log(params["emissionprob"])
        table = np.concatenate([logs, np.zeros((*logs.shape[:2], 1))], axis=2).astype(out.dtype)
        codes = data.values[0]
        for start in range(0, out.shape[2], BLOCK):
            # code -1 is the last column
            out[:, :, start : start + BLOCK] = table.take(codes[start : start + BLOCK], axis=2, mode="wrap")

    def _counts(self, data, posterior):
        """Expected number of each symbol in each state."""
        from scipy import sparse

        codes = data.values[0]
        n_models, n_states, n = posterior.shape
        indicator = sparse.csr_matrix((np.ones(n), codes % (self.n_symbols + 1), np.arange(n + 1)))
        indicator.resize(n, self.n_symbols + 1)
        counts = np.asarray(posterior.reshape(-1, n) @ indicator, np.float64)[:, : self.n_symbols]
        return counts.reshape(n_models, n_states, self.n_symbols)

    def estimated(self, data, posterior, params):
        counts = self._counts(data, posterior)
        weight = counts.sum(axis=2, keepdims=True)
        counts = np.where(params["emissionprob"] > 0, counts + self.prior, 0)
        total = counts.sum(axis=2, keepdims=True)
        return kept_where_empty({"emissionprob": counts / np.where(total > 0, total, 1)}, params, weight)

    def log_prior(self, params):
        return self.prior * log_of_positive(params["emissionprob"]).sum(axis=(1, 2))

    def first(self, n_models, n_states):
        return {"emissionprob": np.full((n_models, n_states, self.n_symbols), 1 / self.n_symbols)}

    def n_free(self, n_states):
        return n_states * (self.n_symbols - 1)

    def free(self, params):
        with np.errstate(divide="ignore"):
            return {"emissionprob": np.log(params["emissionprob"])}

    def bound(self, free):
        return {"emissionprob": probabilities(free["emissionprob"])}

    def slopes(self, data, posterior, params):
        table = params["emissionprob"]
        counts = np.where(table > 0, self._counts(data, posterior) + self.prior, 0)
        return {"emissionprob": counts - counts.sum(axis=2, keepdims=True) * table}


class Gaussian:
    """Normal with a variance of its own for each state and feature."""

    names = ("means", "variances")

    def __init__(self, overall: np.ndarray, floor: np.ndarray, prior: float = 0.0):
        self.overall, self.floor, self.prior = overall, floor, prior

    def fill(self, out, data, params):
        means, half = params["means"], 0.5 / params["variances"]
        constant = 0.5 * np.log(half / np.pi)
        for start in range(0, out.shape[2], BLOCK):
            part = data.at(slice(start, start + BLOCK))
            block = out[:, :, start : start + BLOCK]
            for feature, x in enumerate(part.values):
                found = (x - means[:, :, feature, None]) ** 2
                found *= -half[:, :, feature, None]
                found += constant[:, :, feature, None]
                if part.seen is not None:
                    found *= part.seen[feature]
                if feature:
                    block += found
                else:
                    block[...] = found

    def estimated(self, data, posterior, params):
        centre = data.values.mean(axis=1)
        x = (data.values - centre[:, None]) * data.weights()
        weight, first, second = weighted_sums(posterior, data.weights(), x, x**2)
        n = np.maximum(weight, FEWEST)
        shift = first / n
        squares = np.maximum(second - n * shift**2, 0)
        variances = np.maximum((squares + self.prior * self.overall) / (n + self.prior), self.floor)
        return kept_where_empty({"means": shift + centre, "variances": variances}, params, weight)

    def log_prior(self, params):
        variances = params["variances"]
        return -0.5 * self.prior * (np.log(variances) + self.overall / variances).sum(axis=(1, 2))

    def first(self, n_models, n_states):
        shape = (n_models, n_states, len(self.overall))
        return {"means": np.zeros(shape), "variances": np.broadcast_to(self.overall, shape).copy()}

    def n_free(self, n_states):
        return 2 * n_states * len(self.overall)

    def free(self, params):
        return {"means": params["means"] / np.sqrt(self.overall), "variances": np.log(params["variances"])}

    def bound(self, free):
        variances = np.maximum(np.exp(free["variances"]), self.floor)
        return {"means": free["means"] * np.sqrt(self.overall), "variances": variances}

    def slopes(self, data, posterior, params):
        centre = data.values.mean(axis=1)
        x = (data.values - centre[:, None]) * data.weights()
        weight, first, second = weighted_sums(posterior, data.weights(), x, x**2)
        apart, variances = params["means"] - centre, params["variances"]
        squares = second - 2 * apart * first + weight * apart**2
        of_prior = self.prior * (self.overall / variances - 1)
        return {
            "means": (first - weight * apart) / variances * np.sqrt(self.overall),
            "variances": 0.5 * (squares / variances - weight + of_prior),
        }


def log_of_positive(x: np.ndarray) -> np.ndarray:
    """Logarithm, 0 for zeros."""
    return np.log(np.where(x > 0, x, 1))
