"""Which settings `simulate` takes, and what it says of others."""

from __future__ import annotations

from itertools import pairwise
from numbers import Integral

import numpy as np

SIZES = ("n_cells", "n_genes", "n_groups", "n_batches")
RULES = {
    ("mean_shape", "mean_rate", "library_size"): (lambda x: (x > 0) & (x < np.inf), "a number above 0 is needed"),
    ("dispersion_df",): (lambda x: x > 0, "a number above 0 is needed; infinity for one dispersion of all genes"),
    ("library_scale", "dispersion", "bcv_trend", "outlier_scale", "de_scale", "batch_scale"): (
        lambda x: (x >= 0) & (x < np.inf),
        "0 or more is needed",
    ),
    ("de_probability", "de_down", "outlier_probability"): (
        lambda x: (x >= 0) & (x <= 1),
        "a share between 0 and 1 is needed",
    ),
    ("outlier_location", "de_location", "batch_location", "dropout_mid"): (
        np.isfinite,
        "the logarithm of a number is needed",
    ),
    ("dropout_shape",): (lambda x: (x < 0) & (x > -np.inf), "below 0 is needed, for weak genes to be lost most"),
}
BY_LEVEL = ("de_probability", "de_location", "de_scale", "de_down")


def check(parameters: dict) -> None:
    """Refuse what cannot be simulated, with a sentence; parameters that were not given are missing."""
    for name in SIZES:
        _check_whole(name, parameters[name], 1)
    _check_whole("seed", parameters["seed"], 0)
    for names, (holds, needed) in RULES.items():
        for name in names:
            if name in parameters:
                _check_number(name, parameters[name], holds, needed)
    _check_nested(parameters)
    _check_shares(parameters, "group_shares", "n_groups")
    _check_shares(parameters, "batch_shares", "n_batches")


def _check_whole(name: str, value, least: int) -> None:
    if not isinstance(value, Integral):
        msg = f"{name} is {value!r}: a whole number is needed."
        raise ValueError(msg)
    if value < least:
        msg = f"{name} is {value}: at least {least} is needed."
        raise ValueError(msg)


def _check_number(name: str, value, holds, needed: str) -> None:
    if np.ndim(value) and name not in BY_LEVEL:
        msg = f"{name} is {_shown(value)}: one number is needed."
        raise ValueError(msg)
    if not (np.issubdtype(np.asarray(value).dtype, np.number) and np.all(holds(np.asarray(value)))):
        msg = f"{name} is {_shown(value)}: {needed}."
        raise ValueError(msg)


def _check_nested(parameters: dict) -> None:
    nested, n_groups = np.ravel(parameters.get("nested", [])).tolist(), parameters["n_groups"]
    for value in nested:
        _check_whole("A number in nested", value, 1)
    if any(fine < coarse for coarse, fine in pairwise([*nested, n_groups])):
        msg = (
            f"nested is {nested} and n_groups {n_groups}: no level has more groups than the one below it. "
            "Give the coarsest first, and in n_groups the number of the finest, such as n_groups=59, nested=8."
        )
        raise ValueError(msg)
    for name in BY_LEVEL:
        n_levels = len(nested) + 1
        if np.ndim(parameters[name]) and len(parameters[name]) != n_levels:
            msg = f"{name} has {len(parameters[name])} numbers for {n_levels} level(s): give one, or one per level."
            raise ValueError(msg)


def _check_shares(parameters: dict, name: str, of: str) -> None:
    shares, n = parameters.get(name), parameters[of]
    if shares is None:
        return
    if np.shape(shares) != (n,):
        msg = f"{name} has {np.size(shares)} number(s), and {of} is {n}: one per {name.split('_')[0]} is needed."
        raise ValueError(msg)
    if not (np.all(np.isfinite(shares)) and np.min(shares) >= 0 and np.sum(shares) > 0):
        msg = f"{name} is {_shown(shares)}: numbers of 0 or more are needed, not all 0."
        raise ValueError(msg)


def _shown(value):
    return value.tolist() if isinstance(value, np.ndarray) else repr(value)
