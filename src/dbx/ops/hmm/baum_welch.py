"""Maximum likelihood by Baum and Welch, several starts side by side."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from dataclasses import dataclass, field, replace

import numpy as np

from dbx.ops.hmm.emissions import Data, Emission, Params, log_of_positive
from dbx.ops.hmm.log_messages import log_expected
from dbx.ops.hmm.messages import Expected, RangeError, Sweeps
from dbx.ops.hmm.packed import Packed

MANY = 500_000
"""Positions from which passes are in float32; likelihoods are summed in float64."""
AT_ONCE = 12_000_000
"""Numbers in one array of messages up to which several starts are swept together."""


@dataclass(frozen=True)
class Model:
    """Parameters of several models: a first axis in each array."""

    startprob: np.ndarray
    transmat: np.ndarray
    emission: Params

    def __getitem__(self, index) -> Model:
        return Model(self.startprob[index], self.transmat[index], {k: v[index] for k, v in self.emission.items()})

    def __len__(self) -> int:
        return len(self.startprob)

    @property
    def n_states(self) -> int:
        return self.startprob.shape[1]


@dataclass(frozen=True)
class Problem:
    """The data, and what is learned of them."""

    packed: Packed
    data: Data
    family: Emission
    clamp: np.ndarray | None = None
    """State that is known at each position, -1 where none is; None if none is known at all."""
    temperature: float = 1.0
    learn: tuple[str, ...] = ("startprob", "transmat", "emission")
    transmat_prior: float = 0.0
    sticky: float = 0.0
    room: dict[int, Sweeps] = field(default_factory=dict, compare=False)
    """Number of states -> arrays of the last passes: the next ones are in the same memory."""

    def fill(self, out: np.ndarray, model: Model) -> None:
        """Log-probabilities of the data in each state."""
        self.family.fill(out, self.data, model.emission)
        if self.temperature != 1:
            out /= self.temperature
        if self.clamp is not None:
            known = np.flatnonzero(self.clamp >= 0)
            for state in range(out.shape[1]):
                out[:, state, known[self.clamp[known] != state]] = -np.inf

    def expected(self, sweeps: Sweeps, model: Model) -> Expected:
        """One pass over the data."""
        self.fill(sweeps.emission, model)
        try:
            return sweeps.expected(model.startprob, model.transmat)
        except RangeError:
            if sweeps.dtype != np.float64:
                return self.expected(Sweeps(self.packed, len(model), model.n_states), model)
            emission = np.empty(sweeps.emission.shape)
            self.fill(emission, model)
            return log_expected(self.packed, emission, model.startprob, model.transmat)

    def sweeps(self, n_models: int, n_states: int) -> Sweeps:
        """Arrays for passes: in float32 for many positions; those of earlier passes are used again."""
        if n_states not in self.room or len(self.room[n_states].emission) < n_models:
            dtype = np.float32 if len(self.packed.rows) >= MANY else np.float64
            self.room[n_states] = Sweeps(self.packed, n_models, n_states, dtype)
        found = copy(self.room[n_states])
        found.first(n_models)
        return found

    def log_likelihood(self, model: Model) -> np.ndarray:
        """Of each sequence, an array of shape (n_models, n_sequences)."""
        sweeps = self.sweeps(len(model), model.n_states)
        self.fill(sweeps.emission, model)
        try:
            return sweeps.log_likelihood(model.startprob, model.transmat)
        except RangeError:
            return self.expected(sweeps, model).log_likelihood

    def log_prior(self, model: Model) -> np.ndarray:
        """Logarithm of the prior up to a constant, an array of shape (n_models,)."""
        logs = log_of_positive(model.transmat)
        of_transitions = self.transmat_prior * logs.sum(axis=(1, 2))
        return of_transitions + self.sticky * np.trace(logs, axis1=1, axis2=2) + self.family.log_prior(model.emission)

    def weighed(self, posterior: np.ndarray) -> np.ndarray:
        """Posteriors as weights of emissions beside their prior: of a tempered likelihood."""
        return posterior if self.temperature == 1 else posterior / self.temperature

    def estimated(self, found: Expected, model: Model) -> Model:
        """The M step."""
        changed = {}
        if "startprob" in self.learn:
            changed["startprob"] = found.starts / found.starts.sum(axis=1, keepdims=True)
        if "transmat" in self.learn:
            prior = self.transmat_prior + self.sticky * np.eye(model.n_states)
            counts = np.where(model.transmat > 0, found.transitions + prior, 0)
            total = counts.sum(axis=2, keepdims=True)
            changed["transmat"] = np.where(total > 0, counts / np.where(total > 0, total, 1), model.transmat)
        if "emission" in self.learn:
            changed["emission"] = self.family.estimated(self.data, self.weighed(found.posterior), model.emission)
        return replace(model, **changed)


@dataclass(frozen=True)
class Fit:
    """The best of several starts."""

    model: Model
    history: np.ndarray
    """Log-likelihood (with the log prior) before each M step of the best start, and at its end."""
    starts: np.ndarray
    """Last value of each start."""
    converged: bool
    best: int = 0
    """Number of the best start."""
    positions: np.ndarray | None = None
    """Expected number of positions in each of its states, in the last pass; None without a pass."""


def fit(
    problem: Problem,
    starts: Model,
    *,
    max_iter: int,
    tol: float | None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Fit:
    """Run every start until a pass gains less than ``tol``, or for ``max_iter`` passes; keep the best."""
    n = len(problem.packed.rows)
    at_once = max(1, AT_ONCE // (n * starts.n_states))
    ends, histories, converged, positions = [], [], [], []
    for first in range(0, len(starts), at_once):
        some = starts[first : first + at_once]
        for end, history, done, number in _run(problem, some, max_iter, tol, progress):
            ends.append(end)
            histories.append(np.array(history))
            converged.append(done)
            positions.append(number)
    last = np.array([history[-1] for history in histories])
    best = int(np.nanargmax(last))
    return Fit(ends[best], histories[best], last, converged[best], best, positions[best])


def _run(problem: Problem, starts: Model, max_iter: int, tol: float | None, progress):
    """Last model, history, whether it converged, and expected positions in its states, of each start."""
    sweeps = problem.sweeps(len(starts), starts.n_states)
    model, active = starts, np.arange(len(starts))
    found: list[tuple[Model, list[float], bool, np.ndarray | None]]
    found = [(starts[i : i + 1], [], False, None) for i in range(len(starts))]
    for done in range(max_iter + 1):
        if done == max_iter and (tol is None or max_iter == 0) and len(starts) == 1:
            found[0] = (model, found[0][1], False, found[0][3])  # a single model is evaluated by whoever asked
            break
        expected = problem.expected(sweeps, model)
        value = expected.log_likelihood.sum(axis=1) + problem.log_prior(model)
        positions = expected.starts + expected.transitions.sum(axis=1)
        goes_on = np.full(len(active), done < max_iter)
        for i, start in enumerate(active):
            history = found[start][1]
            still = tol is not None and len(history) > 0 and value[i] - history[-1] < tol
            history.append(float(value[i]))
            found[start] = (model[i : i + 1], history, bool(still), positions[i])
            goes_on[i] &= not still
        progress(done + 1, max_iter + 1)
        if not goes_on.any():
            break
        model = problem.estimated(expected, model)[goes_on]
        active = active[goes_on]
        sweeps.first(len(active))
    return found
