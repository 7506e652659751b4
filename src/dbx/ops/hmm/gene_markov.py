"""Hidden Markov models along genes or bins: each row has a sequence in each chromosome."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.hmm.checks import as_codes
from dbx.ops.hmm.emissions import Data
from dbx.ops.hmm.markov import best_path, numbers_of
from dbx.ops.hmm.model_operator import NAMES, EmissionName, Given, MarkovOperator
from dbx.ops.hmm.packed import Packed, pack
from dbx.ops.operator import Input, Output, Progress, silent

AT_MOST = 2_000_000
"""Positions that are fitted, of rows drawn at random, and positions that are decoded at once."""


class GeneHMM(MarkovOperator):
    """One hidden Markov model for all rows, along columns sorted by chromosome and place.

    ``chromosomes`` is the number of the chromosome of each column, -1 for columns that take no part; ``places`` sorts
    columns within a chromosome, by default in their order. Parameters are fitted on at most 2 million positions.

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
        n_init: int = 10,
        max_iter: int = 200,
        tol: float | None = 1e-4,
        transmat_prior: float = 0.0,
        sticky: float | None = None,
        emission_prior: float = 0.0,
        min_variance: float | None = None,
        temperature: float = 1.0,
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
            n_init=n_init,
            max_iter=max_iter,
            tol=tol,
            transmat_prior=transmat_prior,
            sticky=sticky,
            emission_prior=emission_prior,
            min_variance=min_variance,
            temperature=temperature,
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
        self.chromosomes, self.places = chromosomes, places

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
        self.find(*self._packed(x, rows, sizes), None, seed, progress)

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

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """States of all rows by NumPy."""
        x, columns = inputs["x"], self._columns()[0]
        states = np.full((x.n_rows, x.n_columns), -1, np.int8)
        mean = np.full((x.n_rows, x.n_columns), np.nan, np.float32)
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
            log_likelihood[rows] = found["predictive"].reshape(shape).sum(axis=1)
        return {"states": states, "mean": mean, "log_likelihood": log_likelihood}

    def _means(self) -> np.ndarray:
        """Mean of the data in each state."""
        values = self.model.emission[NAMES[self.emission][0]][0]
        return values @ np.arange(values.shape[1]) if self.emission == "categorical" else values[:, 0]

    def __call__(self, x: Any, sizes: Any = None) -> dict[str, Any]:
        """States and posterior means, arrays of shape (n_rows, n_columns), and log-likelihoods of rows."""
        columns, chromosomes = self._columns()
        shape = len(x), len(columns)
        begins = jnp.tile(np.append(True, chromosomes[1:] != chromosomes[:-1]), len(x))
        factors = None if sizes is None else jnp.repeat(next(iter(sizes.values())), len(columns))
        found, logs = self.messages(x[:, columns].reshape(-1, 1), begins, None, factors)
        _, _, emission = self._log_parameters()
        if self.emission == "categorical":
            means = jnp.exp(emission["log_emissionprob"]) @ jnp.arange(emission["log_emissionprob"].shape[1])
        else:
            means = emission["means"] if self.emission == "gaussian" else jnp.exp(emission[f"log_{self._first}"])
            means = means[:, 0]
        mean = (jnp.exp(found.log_posterior) @ means).reshape(shape)
        states = best_path(logs, begins).reshape(shape)
        return {
            "states": jnp.full(x.shape, -1, jnp.int32).at[:, columns].set(states),
            "mean": jnp.full(x.shape, jnp.nan, mean.dtype).at[:, columns].set(mean),
            "log_likelihood": found.log_predictive.reshape(shape).sum(axis=1),
        }

    @property
    def _first(self) -> str:
        return NAMES[self.emission][0]
