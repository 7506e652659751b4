"""What hidden Markov models along cells and along genes share: settings, the fit, and parameters as they are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx._warnings import warn
from dbx.losses.hidden_markov import markov_messages, normalised
from dbx.ops.checks import check_above_zero, check_at_least, check_known, check_whole, listed
from dbx.ops.hmm.baum_welch import Fit, Model, Problem, fit
from dbx.ops.hmm.checks import check_codes, check_data, check_params
from dbx.ops.hmm.count_emissions import NegativeBinomial, Poisson
from dbx.ops.hmm.emissions import Categorical, Data, Emission, Gaussian, Params
from dbx.ops.hmm.gradient import climb
from dbx.ops.hmm.log_probability import LOG_PROBABILITY
from dbx.ops.hmm.messages import BLOCK, Expected, Sweeps
from dbx.ops.hmm.outliers import OUTLYING, isolated, noise_deviation, running_medians, without_isolated
from dbx.ops.hmm.packed import Packed
from dbx.ops.hmm.starts import copy_number_model, first_models
from dbx.ops.hmm.viterbi import viterbi
from dbx.ops.operator import Constant, Operator, Progress

EmissionName = Literal["gaussian", "categorical", "poisson", "nb"]
NAMES: dict[str, tuple[str, ...]] = {
    "gaussian": ("means", "variances"),
    "categorical": ("emissionprob",),
    "poisson": ("rates",),
    "nb": ("means", "theta"),
}
"""Names of the parameters of each emission."""
FLOOR = 1e-4
"""Smallest variance of a state over that of the feature."""
STICKY = 10
"""Pseudo-counts of staying for each position, for copy numbers."""
FEW = 0.5
"""Expected positions of a state below which it is called empty."""
Method = Literal["baum-welch", "gradient"]
Given = tuple[tuple[str, tuple], ...]
"""Parameters as nested tuples by name."""


class MarkovOperator(Operator):
    """A hidden Markov model: its parameters are trainable logits of probabilities and logarithms of moments."""

    unlisted = frozenset({"params", "names"})

    def __init__(
        self,
        *,
        n_states: int,
        emission: EmissionName = "gaussian",
        params: Given | None = None,
        init: Literal["kmeans", "copy_number", "random"] = "kmeans",
        fitted: bool = True,
        learn: tuple[str, ...] = ("startprob", "transmat", "emission"),
        method: Method = "baum-welch",
        n_init: int = 10,
        max_iter: int = 200,
        tol: float | None = 1e-4,
        transmat_prior: float = 0.0,
        sticky: float | None = None,
        emission_prior: float = 0.0,
        min_variance: float | None = None,
        temperature: float = 1.0,
        learning_rate: float = 5e-2,
        n_symbols: int | None = None,
        order_states: bool = True,
        names: tuple[str, ...] = (),
        unlabeled: str = "Unknown",
    ):
        check_whole(n_states, 1, "n_states")
        check_known(emission, tuple(LOG_PROBABILITY), "emission")
        check_known(method, ("baum-welch", "gradient"), "method")
        check_above_zero(learning_rate, "learning_rate")
        check_known(init, ("kmeans", "copy_number", "random"), "init")
        check_whole(n_init, 1, "n_init")
        check_whole(max_iter, 0, "max_iter")
        check_above_zero(temperature, "temperature")
        check_at_least(transmat_prior, 0, "transmat_prior")
        check_at_least(emission_prior, 0, "emission_prior")
        check_at_least(0 if sticky is None else sticky, 0, "sticky")
        for name in learn:
            check_known(name, ("startprob", "transmat", "emission"), "learn")
        if init == "copy_number" and (n_states != 3 or emission != "gaussian"):
            msg = 'init="copy_number" is for n_states=3 and emission="gaussian": loss, neutral and gain.'
            raise ValueError(msg)
        if params is None and not fitted:
            msg = "fit=False needs params: there is nothing to compute with otherwise."
            raise ValueError(msg)
        if names and (len(names) != n_states or len(set(names)) < n_states):
            msg = f"state_names must be different names, one for each of the {n_states} states; got {listed(names)}."
            raise ValueError(msg)
        check_at_least(0 if tol is None else tol, 0, "tol")
        check_above_zero(1 if min_variance is None else min_variance, "min_variance")
        for name, value, needed in (
            ("n_symbols", n_symbols, "categorical"),
            ("min_variance", min_variance, "gaussian"),
        ):
            if value is not None and emission != needed:
                msg = f'{name} is for emission="{needed}"; got emission={emission!r}.'
                raise ValueError(msg)
        self.n_states, self.emission, self.params, self.init = n_states, emission, params, init
        self.fitted, self.learn, self.n_init, self.max_iter, self.tol = fitted, learn, n_init, max_iter, tol
        self.transmat_prior, self.sticky, self.emission_prior = transmat_prior, sticky, emission_prior
        self.min_variance, self.temperature, self.n_symbols = min_variance, temperature, n_symbols
        self.method, self.learning_rate = method, learning_rate
        self.order_states, self.names, self.unlabeled = order_states, names, unlabeled

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the states."""
        return self.names or tuple(map(str, range(self.n_states)))

    def find(self, packed: Packed, data: Data, clamp: np.ndarray | None, seed: int, progress: Progress) -> None:
        """Fit the parameters, or keep those that were passed."""
        check_data(data, packed, self.emission, self.n_states, self.params is None, self.n_symbols)
        if self.leaves_outliers_out:
            noise = noise_deviation(packed, data, running_medians(packed, data))
            self.outliers_from = Constant(np.array(OUTLYING * noise))
        data = self._without_outliers(packed, data)
        problem = self._problem(packed, data, clamp, self._family(data))
        given = (
            None if self.params is None else check_params(dict(self.params), self.n_states, NAMES[self.emission], data)
        )
        starts = self._starts(problem, seed) if given is None else given
        if self.fitted:
            found = self._fit(problem, starts, progress)
            self._warn(found)
        else:
            found = Fit(starts, np.empty(0), np.empty(0), False)
        ordered = self.order_states and given is None and clamp is None
        order = _order(found.model, NAMES[self.emission][0]) if ordered else np.arange(self.n_states)
        self._keep(_reordered(found.model, order))
        self._warn_of_empty(found, order)
        total = problem.log_likelihood(self.model)[0]
        free = self.n_states**2 - 1 + problem.family.n_free(self.n_states)
        self.likelihoods = Constant(total)
        last = float(total.sum() + problem.log_prior(self.model)[0])
        history = np.append(found.history, last) if self.tol is None or not len(found.history) else found.history
        self.passes = Constant(history)
        self.ends = Constant(
            found.starts if len(found.starts) and np.isfinite(found.starts).all() else np.array([last])
        )
        self.summary = Constant(np.array([found.converged, -2 * total.sum() + free * np.log(len(packed.rows))]))

    @property
    def leaves_outliers_out(self) -> bool:
        """Whether single outlying values count as missing: an event has two positions at least."""
        return self.init == "copy_number" and self.params is None

    def _without_outliers(self, packed: Packed, data: Data) -> Data:
        if not self.leaves_outliers_out:
            return data
        return without_isolated(packed, data, float(np.asarray(self.outliers_from[...])))

    def _fit(self, problem: Problem, starts: Model, progress: Progress) -> Fit:
        """Baum-Welch, after steps along the gradient where these are asked for."""
        passes: list[np.ndarray] = []
        if self.method == "gradient" and self.learn:
            starts, passes = climb(
                problem,
                starts,
                n_steps=self.max_iter,
                tol=self.tol,
                learning_rate=self.learning_rate,
                progress=progress,
            )
        found = fit(problem, starts, max_iter=self.max_iter, tol=self.tol, progress=progress)
        if not passes:
            return found
        return replace(found, history=np.concatenate([passes[found.best], found.history]))

    def _family(self, data: Data) -> Emission:
        if self.emission == "categorical":
            return Categorical(self._symbols(data), self.emission_prior)
        n = np.maximum(data.weights().sum(axis=1), 1)
        centre = data.values.sum(axis=1) / n
        if self.emission == "gaussian":
            variance = (data.weights() * (data.values - centre[:, None]) ** 2).sum(axis=1) / n
            floor = FLOOR * variance if self.min_variance is None else np.full(len(n), self.min_variance)
            return Gaussian(np.maximum(variance, 1e-12), np.maximum(floor, 1e-12), self.emission_prior)
        counts = Poisson if self.emission == "poisson" else NegativeBinomial
        return counts(data, np.maximum(centre, 1e-3), self.emission_prior)

    def _symbols(self, data: Data) -> int:
        if self.params is not None:
            return len(dict(self.params)["emissionprob"][0])
        return int(data.values.max()) + 1 if self.n_symbols is None else self.n_symbols

    def _problem(self, packed: Packed, data: Data, clamp: np.ndarray | None, family: Emission) -> Problem:
        return Problem(
            packed,
            data,
            family,
            clamp,
            self.temperature,
            self.learn,
            self.transmat_prior,
            self._sticky(len(packed.rows)),
        )

    def _sticky(self, n: int) -> float:
        """Pseudo-counts of staying, by default so many for copy numbers that no single outlier is an event."""
        if self.sticky is not None:
            return self.sticky
        return STICKY * n if self.leaves_outliers_out else 0.0

    def _starts(self, problem: Problem, seed: int) -> Model:
        if self.init == "copy_number":
            return copy_number_model(problem)
        return first_models(problem, self.n_states, self.n_init, self.init, seed)

    def _warn(self, found: Fit) -> None:
        if self.tol is not None and not found.converged and self.max_iter:
            gain = found.history[-1] - found.history[-2] if len(found.history) > 1 else np.inf
            msg = (
                f"The log-likelihood still rose by {gain:.2g} in the last of {self.max_iter} passes, more than "
                f"tol={self.tol:g}: pass a larger max_iter."
            )
            warn(msg)

    def _warn_of_empty(self, found: Fit, order: np.ndarray) -> None:
        if found.positions is None or self.leaves_outliers_out:
            return  # many a sample has no loss, or no gain
        empty = [name for name, n in zip(self.levels, found.positions[order], strict=True) if n < FEW]
        if empty:
            warn(
                f"No position is in state {listed(empty)}, whose parameters are those of its start: pass fewer states, "
                f"n_states={self.n_states - len(empty)}, or another start."
            )

    def _keep(self, model: Model) -> None:
        """As trainable numbers without bounds; probabilities of zero stay zero."""
        self.start_logits, self.can_start = _logits(model.startprob[0])
        self.transition_logits, self.can_follow = _logits(model.transmat[0])
        if self.emission == "categorical":
            self.symbol_logits, self.can_emit = _logits(model.emission["emissionprob"][0])
            return
        first, *other = NAMES[self.emission]
        centre = np.ascontiguousarray(model.emission[first][0])
        self.centre = nnx.Param(centre if self.emission == "gaussian" else np.log(centre))
        if other:
            self.log_spread = nnx.Param(np.log(np.ascontiguousarray(model.emission[other[0]][0])))

    def _log_parameters(self) -> tuple[Any, Any, dict[str, Any]]:
        """Logarithms of probabilities, and parameters of emissions, differentiable."""
        start = _log_probabilities(self.start_logits, self.can_start)
        transition = _log_probabilities(self.transition_logits, self.can_follow)
        if self.emission == "categorical":
            return start, transition, {"log_emissionprob": _log_probabilities(self.symbol_logits, self.can_emit)}
        first, *other = NAMES[self.emission]
        found = {first if self.emission == "gaussian" else f"log_{first}": jnp.asarray(self.centre[...])}
        return start, transition, found | {f"log_{name}": jnp.asarray(self.log_spread[...]) for name in other}

    @property
    def model(self) -> Model:
        """The parameters on the host, in float64."""
        start, transition = (
            _softmax(self.start_logits, self.can_start),
            _softmax(self.transition_logits, self.can_follow),
        )
        if self.emission == "categorical":
            emission: Params = {"emissionprob": _softmax(self.symbol_logits, self.can_emit)}
        else:
            first, *other = NAMES[self.emission]
            centre = np.asarray(self.centre[...], np.float64)
            emission = {first: centre if self.emission == "gaussian" else np.exp(centre)}
            emission |= {name: np.exp(np.asarray(self.log_spread[...], np.float64)) for name in other}
        return Model(start[None], transition[None], {name: value[None] for name, value in emission.items()})

    def expected(self, problem: Problem) -> tuple[Expected, Sweeps]:
        """One pass with the parameters there are."""
        sweeps = problem.sweeps(1, self.n_states)
        return problem.expected(sweeps, self.model), sweeps

    def decoded(self, packed: Packed, data: Data, clamp: np.ndarray | None) -> dict[str, np.ndarray]:
        """States, posteriors (n, n_states) and predictive log-probabilities, in the order of rows, by NumPy."""
        if self.emission == "categorical":
            check_codes(data, self.symbol_logits[...].shape[1])
        data = self._without_outliers(packed, data)
        problem = self._problem(packed, data, clamp, self._family_of_call(data))
        found, sweeps = self.expected(problem)
        predictive = sweeps.predictive()[0] if found.predictive is None else found.predictive[0]
        position = np.empty_like(packed.rows)
        position[packed.rows] = np.arange(len(position), dtype=position.dtype)
        posteriors = np.empty((len(position), self.n_states))
        for start in range(0, len(position), BLOCK):
            posteriors[start : start + BLOCK] = found.posterior[0].take(position[start : start + BLOCK], axis=1).T
        problem.fill(sweeps.emission, self.model)
        states = viterbi(packed, sweeps.emission[0], self.model.startprob[0], self.model.transmat[0])
        return {
            "states": states[position].astype(np.int32),
            "posteriors": posteriors,
            "predictive": predictive[position],
        }

    def _family_of_call(self, data: Data) -> Emission:
        """The emission for any data; what only a fit needs does not matter."""
        if self.emission == "categorical":
            return Categorical(self.symbol_logits[...].shape[1])
        one = np.ones(len(data.values))
        if self.emission == "gaussian":
            return Gaussian(one, one)
        return Poisson(data, one) if self.emission == "poisson" else NegativeBinomial(data, one)

    def messages(self, x: Any, begins: Any, known: Any = None, sizes: Any = None):
        """Posteriors and predictive probabilities of rows in the order of sequences, and what Viterbi needs, in JAX."""
        start, transition, emission = self._log_parameters()
        x = self.kept(x, begins)
        logs = LOG_PROBABILITY[self.emission](x, emission, sizes) / self.temperature
        if known is not None:
            other = (known[:, None] >= 0) & (known[:, None] != jnp.arange(self.n_states))
            logs = jnp.where(other, -jnp.inf, logs)
        return markov_messages(start, transition, logs, begins), (start, transition, logs)

    def kept(self, x: Any, begins: Any) -> Any:
        """Values of one sequence after another, (n_positions, n_features), with NaN for outliers, in JAX."""
        if not self.leaves_outliers_out:
            return x
        return jnp.where(isolated(x, begins, jnp.asarray(self.outliers_from[...]), jnp), jnp.nan, x)

    @property
    def fitted_model(self) -> Mapping[str, Any]:
        """Parameters and how they were found."""
        model = self.model
        emission = {name: value[0] for name, value in model.emission.items()}
        converged, bic = np.asarray(self.summary[...])
        likelihoods = np.asarray(self.likelihoods[...])
        return {
            "params": {"startprob": model.startprob[0], "transmat": model.transmat[0], **emission},
            "log_likelihood": float(likelihoods.sum()),
            "log_likelihood_per_sequence": likelihoods,
            "history": np.asarray(self.passes[...]),
            "starts": np.asarray(self.ends[...]),
            "converged": bool(converged),
            "bic": float(bic),
        }


def _logits(probabilities: np.ndarray) -> tuple[nnx.Param, Constant]:
    probabilities = np.ascontiguousarray(probabilities)  # BLAS rounds by the layout in memory
    above = probabilities > 0
    return nnx.Param(np.log(np.where(above, probabilities, 1))), Constant(above)


def _softmax(logits: nnx.Param, above: Constant) -> np.ndarray:
    values, allowed = np.asarray(logits[...], np.float64), np.asarray(above[...], bool)
    highest = np.where(allowed, values, -np.inf).max(axis=-1, keepdims=True)
    weights = np.where(allowed, np.exp(np.where(allowed, values - highest, 0)), 0)
    return weights / weights.sum(axis=-1, keepdims=True)


def _log_probabilities(logits: nnx.Param, above: Constant) -> Any:
    return normalised(jnp.where(above[...], logits[...], -jnp.inf))


def _order(model: Model, first: str) -> np.ndarray:
    """States sorted by the mean of the first feature (of symbols: their mean number)."""
    values = model.emission[first][0]
    key = values @ np.arange(values.shape[1]) if first == "emissionprob" else values[:, 0]
    return np.argsort(key, kind="stable")


def _reordered(model: Model, order: np.ndarray) -> Model:
    return Model(
        model.startprob[:, order],
        model.transmat[:, order][:, :, order],
        {name: value[:, order] for name, value in model.emission.items()},
    )
