"""Parameters of its own for each row: Baum-Welch from those of all rows on, in JAX, rows side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from dbx.losses.hidden_markov import markov_messages, normalised
from dbx.ops.hmm.count_emissions import LOWEST
from dbx.ops.hmm.emissions import FEWEST
from dbx.ops.hmm.log_probability import LOG_PROBABILITY

AT_ONCE = 32
"""Rows side by side."""


class RowModel(NamedTuple):
    """Logarithms of probabilities, and parameters of emissions as :data:`LOG_PROBABILITY` takes them."""

    start: Any
    transition: Any
    emission: dict[str, Any]

    def flat(self) -> Any:
        """Its parameters one after another: startprob, transmat by rows, and those of the emission by states."""
        names = sorted(self.emission, key=lambda name: (name not in ("means", "log_means"), name))
        emission = [self.emission[name] if name == "means" else jnp.exp(self.emission[name]) for name in names]
        return jnp.concatenate([x.ravel() for x in (jnp.exp(self.start), jnp.exp(self.transition), *emission)])


@dataclass(frozen=True)
class RowFit:
    """How the parameters of a row are fitted."""

    emission: str
    learn: tuple[str, ...]
    max_iter: int
    tol: float | None
    temperature: float
    transmat_prior: float
    sticky: float
    emission_prior: float

    def log_emission(self, model: RowModel, x, sizes):
        """Array of shape (n_positions, n_states)."""
        return LOG_PROBABILITY[self.emission](x[:, None], model.emission, sizes) / self.temperature

    def fitted(self, model: RowModel, x, begins, sizes, overall, floor) -> RowModel:
        """The model of a row with values of shape (n_positions,) in the order of sequences."""

        def total(start, transition, logs):
            return markov_messages(start, transition, logs, begins).log_predictive.sum()

        def step(carry):
            model, before, _, done = carry
            logs = self.log_emission(model, x, sizes)
            value, counts = jax.value_and_grad(total, argnums=(0, 1, 2))(model.start, model.transition, logs)
            value = value + self._log_prior(model, overall)
            changed = self._estimated(model, counts, x, sizes, overall, floor)
            return changed, value, value - before, done + 1

        def goes_on(carry):
            _, _, gain, done = carry
            return (done < self.max_iter) & (self.tol is None or gain >= self.tol)

        infinite = jnp.asarray(jnp.inf, x.dtype)
        return jax.lax.while_loop(goes_on, step, (model, -infinite, infinite, 0))[0]

    def _log_prior(self, model: RowModel, overall) -> Any:
        """What the priors add to the log-likelihood, up to a constant, for the rule to stop by."""
        moves = jnp.where(jnp.isfinite(model.transition), model.transition, 0)
        found = self.transmat_prior * moves.sum() + self.sticky * jnp.trace(moves)
        if self.emission_prior == 0:
            return found
        emission = model.emission
        if self.emission == "categorical":
            logs = emission["log_emissionprob"]
            return found + self.emission_prior * jnp.where(jnp.isfinite(logs), logs, 0).sum()
        if self.emission == "gaussian":
            spread = emission["log_variances"]
            return found - 0.5 * self.emission_prior * (spread + overall * jnp.exp(-spread)).sum()
        log_of = LOG_PROBABILITY[self.emission](overall.reshape(1, 1), emission)
        return found + self.emission_prior * log_of.sum()

    def _estimated(self, model: RowModel, counts, x, sizes, overall, floor) -> RowModel:
        starts, moves, posterior = counts
        changed = {}
        if "startprob" in self.learn:
            changed["start"] = normalised(_log(starts))
        if "transmat" in self.learn:
            prior = self.transmat_prior + self.sticky * jnp.eye(len(moves))
            moves = jnp.where(jnp.isfinite(model.transition), moves + prior, 0)
            some = moves.sum(axis=1, keepdims=True) > 0
            changed["transition"] = jnp.where(some, normalised(_log(jnp.where(some, moves, 1))), model.transition)
        if "emission" in self.learn:
            changed["emission"] = self._emission(model.emission, posterior / self.temperature, x, sizes, overall, floor)
        return model._replace(**changed)

    def _emission(self, params: dict[str, Any], posterior, x, sizes, overall, floor) -> dict[str, Any]:
        """Of the largest weighted likelihood; theta stays that of all rows. ``posterior`` is over the temperature."""
        seen, prior = ~jnp.isnan(x), self.emission_prior
        weights, values = jnp.where(seen[:, None], posterior, 0), jnp.where(seen, x, 0)
        weight = weights.sum(axis=0)[:, None]
        kept = weight < FEWEST
        if self.emission == "categorical":
            logs = params["log_emissionprob"]
            codes = jnp.maximum(jnp.rint(values), 0).astype(jnp.int32)
            number = jnp.zeros(logs.shape, logs.dtype).T.at[codes].add(jnp.where((x >= 0)[:, None], weights, 0)).T
            number = jnp.where(jnp.isfinite(logs), number + prior, 0)
            some = number.sum(axis=1, keepdims=True) > 0
            return {"log_emissionprob": jnp.where(some, normalised(_log(jnp.where(some, number, 1))), logs)}
        n = jnp.maximum(weight + (0 if self.emission == "gaussian" else prior), FEWEST)
        if self.emission == "gaussian":
            means = (values @ weights)[:, None] / n
            squares = (weights * (values[:, None] - means[:, 0]) ** 2).sum(axis=0)[:, None]
            variances = jnp.maximum((squares + prior * overall) / jnp.maximum(weight + prior, FEWEST), floor)
            found = {"means": means, "log_variances": jnp.log(variances)}
        elif self.emission == "poisson":
            exposure = (weights * (1 if sizes is None else sizes[:, None])).sum(axis=0)[:, None]
            rates = ((values @ weights)[:, None] + prior * overall) / jnp.maximum(exposure + prior, FEWEST)
            found = {"log_rates": jnp.log(jnp.maximum(rates, LOWEST))}
        else:
            factor = jnp.ones_like(values) if sizes is None else sizes
            theta = jnp.exp(params["log_theta"])
            means = jnp.exp(params["log_means"])
            for _ in range(3):  # weights of counts fall with their factor
                shrunk = weights / (1 + factor[:, None] * (means / theta)[:, 0])
                of_prior = prior / (1 + means / theta)
                over = (values @ shrunk)[:, None] + of_prior * overall
                means = jnp.maximum(over / jnp.maximum((factor @ shrunk)[:, None] + of_prior, FEWEST), LOWEST)
            found = {**params, "log_means": jnp.log(means)}
        return {name: jnp.where(kept, params[name], value) for name, value in found.items()}


def _log(x):
    return jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), -jnp.inf)
