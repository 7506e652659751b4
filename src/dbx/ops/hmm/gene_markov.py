"""Hidden Markov models along genes or bins: each row has a sequence in each chromosome."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.losses.hidden_markov import markov_messages
from dbx.ops.checks import check_whole
from dbx.ops.hmm.checks import as_codes, without_values
from dbx.ops.hmm.emissions import Data
from dbx.ops.hmm.markov import best_path, numbers_of
from dbx.ops.hmm.model_operator import NAMES, EmissionName, Given, MarkovOperator, Method
from dbx.ops.hmm.packed import Packed, pack
from dbx.ops.hmm.row_models import AT_ONCE, RowFit, RowModel
from dbx.ops.operator import Constant, Input, Output, Progress, silent

AT_MOST = 2_000_000
"""Positions that are fitted, of rows drawn at random, and positions that are decoded at once."""


class GeneHMM(MarkovOperator):
    """One hidden Markov model for all rows, along columns sorted by chromosome and place.

    ``chromosomes`` is the number of the chromosome of each column, -1 for columns that take no part; ``places`` sorts
    columns within a chromosome, by default in their order. Parameters are fitted on at most 2 million positions.
    Without ``share`` they are where the fit of the parameters of each row starts.

    New cells: stored parameters on their genes.
    """

    name = "hmm_genes"
    inputs: ClassVar = {
        "x": Input(genes=True, missing=True),
        "sizes": Input(kind="columns", optional=True),
    }
    outputs: ClassVar = {
        "states": Output(dtype="int8"),
        "mean": Output(),
        "log_likelihood": Output(dtype="float64"),
        "fitted_model": Output(axis="none", dtype=None, view=True),
    }
    result = "fitted_model"
    rowwise = True
    precision = "float64"
    unlisted = MarkovOperator.unlisted | {"chromosomes", "places"}

    def __init__(
        self,
        *,
        n_states: int,
        chromosomes: tuple[int, ...],
        places: tuple[float, ...] | None = None,
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
        share: bool = True,
        posteriors: bool = False,
        learning_rate: float = 5e-2,
        n_symbols: int | None = None,
        order_states: bool = True,
        names: tuple[str, ...] = (),
    ):
        super().__init__(
            n_states=n_states,
            emission=emission,
            params=params,
            init=init,
            fitted=fitted,
            learn=learn,
            method=method,
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            transmat_prior=transmat_prior,
            sticky=sticky,
            emission_prior=emission_prior,
            min_variance=min_variance,
            temperature=temperature,
            learning_rate=learning_rate,
            n_symbols=n_symbols,
            order_states=order_states,
            names=names,
        )
        if max(chromosomes, default=-1) < 0:
            msg = "No column has a chromosome."
            raise ValueError(msg)
        if places is not None and len(places) != len(chromosomes):
            msg = f"places must be one for each of the {len(chromosomes)} columns; got {len(places)}."
            raise ValueError(msg)
        self.chromosomes, self.places, self.share, self.posteriors = chromosomes, places, share, posteriors

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[GeneHMM]:
        """The parameters of each row are an output where they are its own, and posteriors where they are asked for."""
        share, n_posteriors = config.get("share", True), 0
        if config.get("posteriors"):
            check_whole(config["n_states"], 1, "n_states")
            n_posteriors = int(config["n_states"])
        return cls if share and not n_posteriors else _with_outputs(n_posteriors, share=share)

    def check_differentiable(self) -> None:
        """Parameters that are found anew for each row have no gradient."""
        if not self.share:
            msg = "share=False fits the parameters of each row anew, which has no gradient: use share=True."
            raise ValueError(msg)

    def _columns(self) -> tuple[np.ndarray, np.ndarray]:
        """Columns that take part, in the order of sequences, and the chromosome of each."""
        chromosomes = np.asarray(self.chromosomes)
        index = np.arange(len(chromosomes))
        order = np.lexsort((index if self.places is None else np.asarray(self.places), chromosomes))
        order = order[chromosomes[order] >= 0]
        return order, chromosomes[order]

    def fit(
        self,
        *,
        x: RowBlocks,
        sizes: Mapping[str, Any] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Fit the parameters on as many rows as are needed."""
        columns, _ = self._columns()
        n_rows = max(1, AT_MOST // len(columns))
        rows = np.arange(x.n_rows)
        if n_rows < len(rows):
            rows = np.sort(np.random.default_rng(seed).choice(len(rows), n_rows, replace=False))
        packed, data = self._packed(x, rows, sizes)
        self._check_values(without_values(data, packed), rows)
        self.find(packed, data, None, seed, progress)
        if not self.share:
            family = self._family(data)
            of_data = [getattr(family, name, np.zeros(1))[0] for name in ("overall", "floor")]
            self.of_data = Constant(np.array(of_data))

    def _check_values(self, firsts: np.ndarray, rows: np.ndarray) -> None:
        """Refuse chromosomes of a row without any value; ``firsts`` are where they begin, one row after another."""
        if len(firsts):
            columns = self._columns()[0]
            row, place = divmod(int(firsts.min()), len(columns))
            msg = (
                f"{len(firsts)} times a row has missing values only along a chromosome: first row {rows[row]}, along "
                f"the chromosome of column {columns[place]}. Leave out such rows, or the chromosomes of such columns."
            )
            raise ValueError(msg)

    def _packed(self, x: RowBlocks, rows: np.ndarray, sizes: Mapping[str, Any] | None) -> tuple[Packed, Data]:
        """Sequences of some rows, one row after another."""
        columns, chromosomes = self._columns()
        values = x.dense(rows)[:, columns].astype(np.float64).reshape(1, -1)
        n_chromosomes = int(chromosomes.max()) + 1
        sequence = np.arange(len(rows))[:, None] * n_chromosomes + chromosomes
        packed = pack(np.unique(sequence, return_inverse=True)[1].ravel())
        values = values[:, packed.rows]
        if self.emission == "categorical":
            return packed, Data(as_codes(values))
        if sizes is None:
            return packed, Data.of(values)
        factors = numbers_of(sizes, "size_factors")[rows]
        return packed, Data.of(values, np.repeat(factors, len(columns))[packed.rows])

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """States of all rows by NumPy."""
        if not self.share:
            return None
        x, columns = inputs["x"], self._columns()[0]
        states = np.full((x.n_rows, x.n_columns), -1, np.int8)
        mean = np.full((x.n_rows, x.n_columns), np.nan, np.float32)
        posteriors = np.full((self.n_states if self.posteriors else 0, x.n_rows, x.n_columns), np.nan, np.float32)
        log_likelihood = np.empty(x.n_rows)
        means = self._means()
        size = max(1, AT_MOST // len(columns))
        for start in range(0, x.n_rows, size):
            rows = np.arange(start, min(start + size, x.n_rows))
            found = self.decoded(*self._packed(x, rows, inputs.get("sizes")), None)
            shape = len(rows), len(columns)
            at = np.ix_(rows, columns)
            states[at] = found["states"].reshape(shape)
            mean[at] = (found["posteriors"] @ means).reshape(shape)
            for state, posterior in enumerate(posteriors):
                posterior[at] = found["posteriors"][:, state].reshape(shape)
            log_likelihood[rows] = found["predictive"].reshape(shape).sum(axis=1)
        named = {posterior_output(state): posterior for state, posterior in enumerate(posteriors)}
        return {"states": states, "mean": mean, "log_likelihood": log_likelihood, **named}

    def _means(self) -> np.ndarray:
        """Mean of the data in each state."""
        values = self.model.emission[NAMES[self.emission][0]][0]
        return values @ np.arange(values.shape[1]) if self.emission == "categorical" else values[:, 0]

    def __call__(self, x: Any, sizes: Any = None) -> dict[str, Any]:
        """States and posterior means, arrays of shape (n_rows, n_columns), and log-likelihoods of rows."""
        columns, chromosomes = self._columns()
        if not self.share:
            return self._of_rows(x, None if sizes is None else next(iter(sizes.values())))
        shape = len(x), len(columns)
        begins = jnp.tile(np.append(True, chromosomes[1:] != chromosomes[:-1]), len(x))
        factors = None if sizes is None else jnp.repeat(next(iter(sizes.values())), len(columns))
        found, logs = self.messages(x[:, columns].reshape(-1, 1), begins, None, factors)
        _, _, emission = self._log_parameters()
        posterior = jnp.exp(found.log_posterior)
        mean = (posterior @ self._means_of(emission)).reshape(shape)
        states = best_path(logs, begins).reshape(shape)
        total = found.log_predictive.reshape(shape).sum(axis=1)
        return self._along_columns(x.shape, columns, states, mean, posterior.reshape(*shape, -1)) | {
            "log_likelihood": total
        }

    def _along_columns(self, shape: tuple[int, int], columns: np.ndarray, states, mean, posterior) -> dict[str, Any]:
        """Outputs of all columns: -1 and NaN for those that take no part."""

        def spread(values):
            return jnp.full(shape, jnp.nan, values.dtype).at[:, columns].set(values)

        asked = range(self.n_states if self.posteriors else 0)
        return {
            "states": jnp.full(shape, -1, jnp.int32).at[:, columns].set(states),
            "mean": spread(mean),
            **{posterior_output(state): spread(posterior[..., state]) for state in asked},
        }

    def _means_of(self, emission: Mapping[str, Any]) -> Any:
        """Mean of the data in each state, differentiable."""
        first = NAMES[self.emission][0]
        if self.emission == "categorical":
            table = jnp.exp(emission["log_emissionprob"])
            return table @ jnp.arange(table.shape[1], dtype=table.dtype)
        return (emission[first] if first in emission else jnp.exp(emission[f"log_{first}"]))[:, 0]

    def _of_rows(self, x: Any, sizes: Any) -> dict[str, Any]:
        """By parameters of each row, which are an output too."""
        columns, chromosomes = self._columns()
        begins = jnp.asarray(np.append(True, chromosomes[1:] != chromosomes[:-1]))
        overall, floor = jnp.asarray(self.of_data[...]).astype(x.dtype)
        first = RowModel(*self._log_parameters())
        how = RowFit(
            emission=self.emission,
            learn=self.learn if self.fitted else (),
            max_iter=self.max_iter if self.fitted else 0,
            tol=self.tol,
            temperature=self.temperature,
            transmat_prior=self.transmat_prior,
            sticky=self._sticky(len(columns)),
            emission_prior=self.emission_prior,
        )

        def of_row(row):
            values, size = row
            values = self.kept(values[:, None], begins)[:, 0]
            factors = None if sizes is None else jnp.full(len(values), size)
            inputs = jax.lax.stop_gradient((first, values, begins, factors, overall, floor))
            model = how.fitted(*inputs)
            logs = how.log_emission(model, values, factors)
            found = markov_messages(model.start, model.transition, logs, begins)
            posterior = jnp.exp(found.log_posterior)
            mean = posterior @ self._means_of(model.emission)
            states = best_path((model.start, model.transition, logs), begins)
            return states, mean, posterior, found.log_predictive.sum(), model.flat()

        some = jnp.ones(len(x), x.dtype) if sizes is None else sizes.astype(x.dtype)
        rows = (x[:, columns], some)
        found = jax.lax.map(of_row, rows, batch_size=min(AT_ONCE, max(len(x), 1)))
        *of_columns, total, params = found
        return self._along_columns(x.shape, columns, *of_columns) | {"log_likelihood": total, "row_params": params}


def posterior_output(state: int) -> str:
    """Name of the output with the posterior of a state."""
    return f"posterior_{state}"


@cache
def _with_outputs(n_posteriors: int, *, share: bool) -> type[GeneHMM]:
    """The class with posteriors of states, and with the parameters of each row."""
    outputs = GeneHMM.outputs | {posterior_output(state): Output() for state in range(n_posteriors)}
    if not share:
        outputs["row_params"] = Output(dtype="float64")
    body = {"outputs": outputs, "__module__": __name__, "__qualname__": GeneHMM.__qualname__}
    return type(GeneHMM.__name__, (GeneHMM,), body)
