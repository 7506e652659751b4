"""Maximum likelihood along the gradient, by Adam, several starts side by side."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from dbx.ops.hmm.baum_welch import AT_ONCE, Model, Problem
from dbx.ops.hmm.emissions import Params, probabilities
from dbx.ops.hmm.messages import Expected

MOMENTS = 0.9, 0.999
"""Adam's decay of the means of gradients and of their squares."""
SMALL = 1e-8
WAIT = 10
"""Steps in which the best log-likelihood must rise by ``tol`` for the climb to go on."""


def climb(
    problem: Problem,
    starts: Model,
    *,
    n_steps: int,
    tol: float | None,
    learning_rate: float,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Model, list[np.ndarray]]:
    """The best parameters on the way of each start, and the log-likelihoods (with the log prior) of its steps.

    What moves has no bounds: logits of probabilities, means in deviations of the data, and logarithms of what is above
    zero. The gradient of the mean over positions is exact: by Fisher's identity it follows from expected counts.
    """
    at_once = max(1, AT_ONCE // (len(problem.packed.rows) * starts.n_states))
    parts, histories = [], []
    for first in range(0, len(starts), at_once):
        best, values = _climb(problem, starts[first : first + at_once], n_steps, tol, learning_rate, progress)
        parts.append(best)
        histories.extend(values.T)
    whole = Model(
        np.concatenate([part.startprob for part in parts]),
        np.concatenate([part.transmat for part in parts]),
        {name: np.concatenate([part.emission[name] for part in parts]) for name in problem.family.names},
    )
    return whole, histories


def _climb(problem: Problem, starts: Model, n_steps: int, tol: float | None, rate: float, progress):
    sweeps = problem.sweeps(len(starts), starts.n_states)
    free = _free(problem, starts)
    first, second = ({name: np.zeros_like(value) for name, value in free.items()} for _ in range(2))
    model, best, highest, values, tops = starts, starts, np.full(len(starts), -np.inf), [], []
    for step in range(n_steps + 1):
        found = problem.expected(sweeps, model)
        value = found.log_likelihood.sum(axis=1) + problem.log_prior(model)
        better = value > highest
        best, highest = _chosen(better, model, best), np.maximum(value, highest)
        values.append(value)
        tops.append(highest)
        progress(step + 1, n_steps + 1)
        slow = tol is not None and step >= WAIT and (highest - tops[step - WAIT] < tol).all()
        if step == n_steps or slow:
            break
        slopes = slopes_of(problem, found, model)
        for name, slope in slopes.items():
            first[name] += (1 - MOMENTS[0]) * (slope - first[name])
            second[name] += (1 - MOMENTS[1]) * (slope**2 - second[name])
            mean, square = (
                m / (1 - decay ** (step + 1)) for m, decay in zip((first[name], second[name]), MOMENTS, strict=True)
            )
            free[name] = free[name] + rate * mean / (np.sqrt(square) + SMALL)
        model = _bound(problem, free, model)
    return best, np.array(values)


def slopes_of(problem: Problem, found: Expected, model: Model) -> Params:
    """Derivatives of the log-likelihood and log prior, over the number of positions, in what may be learned."""
    slopes: Params = {}
    if "startprob" in problem.learn:
        slopes["startprob"] = _of_logits(found.starts, model.startprob)
    if "transmat" in problem.learn:
        prior = problem.transmat_prior + problem.sticky * np.eye(model.n_states)
        slopes["transmat"] = _of_logits(np.where(model.transmat > 0, found.transitions + prior, 0), model.transmat)
    if "emission" in problem.learn:
        slopes |= problem.family.slopes(problem.data, problem.weighed(found.posterior), model.emission)
    n = len(problem.packed.rows)
    return {name: slope / n for name, slope in slopes.items()}


def _of_logits(counts: np.ndarray, of: np.ndarray) -> np.ndarray:
    return counts - counts.sum(axis=-1, keepdims=True) * of


def _free(problem: Problem, model: Model) -> Params:
    with np.errstate(divide="ignore"):
        logits = {"startprob": np.log(model.startprob), "transmat": np.log(model.transmat)}
    return logits | problem.family.free(model.emission)


def _bound(problem: Problem, free: Params, model: Model) -> Model:
    """The model of free parameters; what may not be learned stays as it is to the bit."""
    changed: dict = {name: probabilities(free[name]) for name in ("startprob", "transmat") if name in problem.learn}
    if "emission" in problem.learn:
        changed["emission"] = problem.family.bound(free)
    return replace(model, **changed)


def _chosen(better: np.ndarray, new: Model, old: Model) -> Model:
    def either(a, b):
        return np.where(better.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    emission = {name: either(value, old.emission[name]) for name, value in new.emission.items()}
    return Model(either(new.startprob, old.startprob), either(new.transmat, old.transmat), emission)
