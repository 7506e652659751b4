"""Checks of data and parameters of hidden Markov models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from dbx.ops.hmm.baum_welch import Model
from dbx.ops.hmm.emissions import Data
from dbx.ops.hmm.packed import Packed

SUM_TO_1 = 1e-6
"""Largest difference from 1 of the sum of probabilities, which are normalised."""


def check_data(data: Data, packed: Packed, emission: str, n_states: int, fresh: bool, n_symbols: int | None) -> None:
    """Refuse values that an emission cannot have, sequences without any, and more states than values."""
    values, seen = data.values, data.weights() > 0
    if emission == "categorical":
        if len(values) > 1:
            msg = (
                f'emission="categorical" takes one column of codes; got {len(values)}. Name one: codes_key, or a layer '
                "or use_rep with one column."
            )
            raise ValueError(msg)
        seen = values >= 0
        if n_symbols is not None:
            check_codes(data, n_symbols)
    elif not np.isfinite(values).all():
        msg = "Values must be finite or missing (NaN); got infinite ones."
        raise ValueError(msg)
    if emission in ("poisson", "nb"):
        wrong = (values < 0) | (values != np.rint(values))
        if wrong.any():
            msg = (
                f'emission="{emission}" needs counts; got {values[wrong][0]:g}. Pass the layer with raw counts, '
                'layer="counts", or emission="gaussian".'
            )
            raise ValueError(msg)
    rows = without_values(data, packed)
    if len(rows):
        msg = (
            f"{len(rows)} of {len(packed.firsts)} sequences have missing values only: leave them out. The first begins "
            f"in row {rows.min()}."
        )
        raise ValueError(msg)
    if fresh:
        n_values = len(np.unique(values[:, seen.all(axis=0)].T[:100_000], axis=0))
        if n_values < n_states:
            few = "is only 1 distinct value" if n_values == 1 else f"are only {n_values} distinct values"
            msg = f"There {few}, fewer than n_states={n_states}: pass fewer states."
            raise ValueError(msg)


def without_values(data: Data, packed: Packed) -> np.ndarray:
    """First rows of the sequences that have missing values only."""
    used = np.bincount(packed.sequence, (data.weights() > 0).any(axis=0), len(packed.firsts))
    return packed.rows[packed.firsts[used == 0]]


def check_codes(data: Data, n_symbols: int) -> None:
    """Refuse symbols that are not known."""
    if data.values.max(initial=-1) >= n_symbols:
        msg = f"Codes must be below the number of symbols, {n_symbols}; got {int(data.values.max())}."
        raise ValueError(msg)


def as_codes(values: np.ndarray) -> np.ndarray:
    """Numbers as codes of symbols; missing ones are -1."""
    codes = np.where(np.isnan(values), -1, values)
    wrong = (codes < -1) | (codes != np.rint(codes))
    if wrong.any():
        msg = f'emission="categorical" needs whole numbers from 0 on, or -1 where missing; got {codes[wrong][0]:g}.'
        raise ValueError(msg)
    return codes.astype(np.int32)


def check_params(params: Mapping[str, Sequence], n_states: int, names: tuple[str, ...], data: Data) -> Model:
    """Parameters of one model, checked and normalised."""
    wanted = {"startprob", "transmat", *names}
    if set(params) != wanted:
        msg = f"params must have {', '.join(sorted(wanted))}; got {', '.join(sorted(params)) or 'none'}."
        raise ValueError(msg)
    found = {name: np.asarray(value, np.float64) for name, value in params.items()}
    for name in names:
        if found[name].ndim == 1:
            found[name] = found[name][:, None]
        _check_shape(found[name], name, n_states, None if name == "emissionprob" else len(data.values))
    _check_shape(found["transmat"], "transmat", n_states, n_states)
    if found["startprob"].shape != (n_states,):
        msg = f"params['startprob'] must have shape ({n_states},); got {found['startprob'].shape}."
        raise ValueError(msg)
    for name in ("startprob", "transmat", "emissionprob"):
        if name in found:
            found[name] = _probabilities(found[name], name)
    for name in set(names) - {"emissionprob"}:
        if not np.isfinite(found[name]).all() or (name != "means" and (found[name] <= 0).any()):
            msg = f"params[{name!r}] must be finite{'' if name == 'means' else ' and above 0'}."
            raise ValueError(msg)
    if "theta" in names and (found["means"] <= 0).any():
        msg = "params['means'] of counts must be above 0."
        raise ValueError(msg)
    emission = {name: found[name][None] for name in names}
    return Model(found["startprob"][None], found["transmat"][None], emission)


def _check_shape(value: np.ndarray, name: str, n_states: int, n_columns: int | None) -> None:
    if value.ndim != 2 or len(value) != n_states or (n_columns is not None and value.shape[1] != n_columns):
        wanted = f"({n_states}, {'n_symbols' if n_columns is None else n_columns})"
        msg = f"params[{name!r}] must have shape {wanted}; got {value.shape}."
        raise ValueError(msg)


def _probabilities(value: np.ndarray, name: str) -> np.ndarray:
    if not np.isfinite(value).all() or (value < 0).any():
        msg = f"params[{name!r}] must be probabilities, finite and at least 0."
        raise ValueError(msg)
    total = value.sum(axis=-1, keepdims=True)
    wrong = np.flatnonzero(np.abs(total.ravel() - 1) > SUM_TO_1)
    if len(wrong):
        row = "" if value.ndim == 1 else f"row {wrong[0]} of "
        msg = f"{row}params[{name!r}] must sum to 1; got {total.ravel()[wrong[0]]:g}."
        raise ValueError(msg[0].upper() + msg[1:])
    return value / total
