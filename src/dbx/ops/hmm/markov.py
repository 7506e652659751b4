"""Hidden Markov models along rows: genomic bins, time points, clones, bases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.hmm.checks import as_codes
from dbx.ops.hmm.emissions import Data
from dbx.ops.hmm.model_operator import MarkovOperator
from dbx.ops.hmm.packed import Packed, pack
from dbx.ops.operator import Constant, Input, Output, Progress, silent
from dbx.ops.values import Codes

UNCHANGED = 1e-6
"""Relative difference of log-likelihoods up to which training changed nothing."""


class HMM(MarkovOperator):
    """States along sequences of rows: posteriors by forward and backward messages, the best path by Viterbi.

    Fitted by Baum and Welch (Rabiner, Proceedings of the IEEE, 1989), from several starts side by side.

    New cells: stored parameters on the sequences among the new cells.
    """

    name = "hmm"
    inputs: ClassVar = {
        "x": Input(genes=True, missing=True, optional=True),
        "z": Input(missing=True, optional=True),
        "codes": Input(kind="columns", missing=True, optional=True),
        "sequences": Input(kind="codes", unseen="new", optional=True),
        "positions": Input(kind="columns", optional=True),
        "sizes": Input(kind="columns", optional=True),
        "labels": Input(kind="codes", missing=True, unseen="missing", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "states": Output(dtype="category"),
        "posteriors": Output(dtype="float64", levels=True),
        "predictive": Output(dtype="float64"),
        "fitted_model": Output(axis="none", dtype=None, view=True),
    }
    result = "fitted_model"
    precision = "float64"
    in_space = True
    in_sequences = "sequences"

    def fit(
        self,
        *,
        x: RowBlocks | None = None,
        z: RowBlocks | None = None,
        codes: Mapping[str, Any] | None = None,
        sequences: Codes | None = None,
        positions: Mapping[str, Any] | None = None,
        sizes: Mapping[str, Any] | None = None,
        labels: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Pack the sequences and fit the parameters."""
        values, packed = _packed(_values(x, z, codes), sequences, positions)
        if isinstance(column := next(iter(codes.values())) if codes else None, Codes) and self.n_symbols is None:
            self.n_symbols = column.n_levels
        clamp = None
        if labels is not None:
            levels = [level for level in labels.levels if level != self.unlabeled]
            if len(levels) > self.n_states:
                msg = f"There are {len(levels)} labels, more than n_states={self.n_states}: pass more states."
                raise ValueError(msg)
            self.names = self.names or (*levels, *map(str, range(len(levels), self.n_states)))
            clamp = self._known(labels)[packed.rows]
            if (clamp < 0).all():
                msg = "All labels are missing or unknown: leave labels_key out, or label some rows."
                raise ValueError(msg)
        self.find(packed, self._data(values, packed, sizes), clamp, seed, progress)

    def _known(self, labels: Codes, xp: Any = np) -> Any:
        """Number of the state that each row is known to have, -1 for others."""
        levels = [level for level in labels.levels if level != self.unlabeled]
        states = [levels.index(level) if level in levels else -1 for level in labels.levels]
        return xp.asarray([*states, -1])[labels.codes]

    def _data(self, values: np.ndarray, packed: Packed, sizes: Mapping[str, Any] | None) -> Data:
        values = values[:, packed.rows]
        if self.emission == "categorical":
            return Data(as_codes(values))
        return Data.of(values, None if sizes is None else numbers_of(sizes, "size_factors")[packed.rows])

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """States of all rows by NumPy."""
        names = ("x", "z", "codes")
        values, packed = _packed(
            _values(*(inputs.get(name) for name in names)), inputs.get("sequences"), inputs.get("positions")
        )
        labels = inputs.get("labels")
        clamp = None if labels is None else self._known(labels)[packed.rows]
        found = self.decoded(packed, self._data(values, packed, inputs.get("sizes")), clamp)
        return {**found, "states": Codes(found["states"], self.levels)}

    def __call__(self, x=None, z=None, codes=None, sequences=None, positions=None, sizes=None, labels=None):
        """States, posteriors (n_rows, n_states) and log-probabilities given the rows before (n_rows,)."""
        column = None if codes is None else next(iter(codes.values()))
        column = column.codes if isinstance(column, Codes) else column
        values = next(value for value in (x, z, column) if value is not None)
        values = values[:, None] if values.ndim == 1 else values
        n = len(values)
        numbers = jnp.zeros(n, jnp.int32) if sequences is None else jnp.asarray(sequences.codes)
        place = jnp.arange(n) if positions is None else next(iter(positions.values()))
        order = jnp.lexsort((jnp.arange(n), place, numbers))
        numbers = numbers[order]
        begins = jnp.concatenate([jnp.ones(1, bool), numbers[1:] != numbers[:-1]])
        known = None if labels is None else self._known(labels, jnp)[order]
        sizes = None if sizes is None else next(iter(sizes.values()))[order]
        found, logs = self.messages(values[order], begins, known, sizes)
        states = best_path(logs, begins)

        def back(rows):
            return jnp.zeros_like(rows).at[order].set(rows)

        return {
            "states": Codes(back(states), self.levels),
            "posteriors": back(jnp.exp(found.log_posterior)),
            "predictive": back(found.log_predictive),
        }

    def loss(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Any:
        """Negative log-probability of each row given those before it in its sequence."""
        return -outputs["predictive"]

    def settle(self, outputs: Mapping[str, Any]) -> None:
        """The likelihood after training by :func:`dbx.optimize`: of all sequences together."""
        before, total = np.asarray(self.likelihoods[...]).sum(), np.asarray(outputs["predictive"]).sum()
        if np.isclose(total, before, rtol=UNCHANGED, atol=0):
            return  # of each sequence, which the outputs do not tell
        converged, bic = np.asarray(self.summary[...])
        self.likelihoods = Constant(np.array([total], np.float64))
        self.summary = Constant(np.array([converged, bic - 2 * (total - before)]))


def _values(x: RowBlocks | None, z: RowBlocks | None, codes: Mapping[str, Any] | None) -> np.ndarray:
    """Array of shape (n_features, n_rows), float64."""
    if codes is not None:
        column = next(iter(codes.values()))
        column = np.asarray(column.codes if isinstance(column, Codes) else column, np.float64)
        return column[None]
    blocks = x if x is not None else z
    if blocks is None:
        msg = "A hidden Markov model needs values: X, a layer, use_rep or codes_key."
        raise ValueError(msg)
    return blocks.dense().astype(np.float64).T


def _packed(values: np.ndarray, sequences: Codes | None, positions: Mapping[str, Any] | None):
    n = values.shape[1]
    codes = np.zeros(n, int) if sequences is None else np.unique(np.asarray(sequences.codes), return_inverse=True)[1]
    place = None if positions is None else numbers_of(positions, "position_key")
    return values, pack(codes.ravel(), place)


def numbers_of(columns: Mapping[str, Any], argument: str) -> np.ndarray:
    """The numbers of a column of ``obs`` that an argument names."""
    ((name, column),) = columns.items()
    if isinstance(column, Codes):
        msg = f"{argument} must be numbers; obs[{name!r}] holds text or categories."
        raise ValueError(msg)
    column = np.asarray(column, np.float64)
    if argument == "size_factors" and not (column > 0).all():
        msg = f"size_factors must be above 0; got {column.min():g} in obs[{name!r}]."
        raise ValueError(msg)
    return column


def best_path(logs, begins):
    """Viterbi along sequences one after another; ties to the lower state.

    ``logs`` are those of the start, of transitions and of emissions.
    """
    log_start, log_transition, log_emission = logs

    def step(score, given):
        emission, first = given
        paths = score[:, None] + jnp.where(first, log_start[None], log_transition)
        paths = jnp.where(first, score.max() + log_start[None] + jnp.zeros_like(paths), paths)
        before = jnp.where(first, score.argmax(), paths.argmax(axis=0))
        best = paths.max(axis=0) + emission
        highest = best.max()
        return best - jnp.where(jnp.isfinite(highest), highest, 0), before

    score, before = jax.lax.scan(step, jnp.zeros_like(log_start), (log_emission, begins))

    def trace(state, given):
        return given[state], state

    _, states = jax.lax.scan(trace, score.argmax(), before, reverse=True)
    return states.astype(jnp.int32)
