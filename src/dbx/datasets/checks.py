"""Checks of the parameters of `simulate`."""

from __future__ import annotations

from itertools import pairwise
from numbers import Integral

import numpy as np

from dbx.datasets.distributions import check_classes

SIZES = ("n_cells", "n_genes", "n_groups", "n_batches")
RULES = {
    ("mean_shape", "mean_rate", "library_size"): (lambda x: (x > 0) & (x < np.inf), "a number above 0"),
    ("dispersion_df",): (lambda x: x > 0, "a number above 0, or infinity for the same dispersion in all genes"),
    ("library_scale", "dispersion", "bcv_trend", "outlier_scale", "de_scale", "batch_scale"): (
        lambda x: (x >= 0) & (x < np.inf),
        "at least 0",
    ),
    ("de_probability", "de_down", "outlier_probability", "path_skew", "path_nonlinear"): (
        lambda x: (x >= 0) & (x <= 1),
        "between 0 and 1",
    ),
    ("mode_distance",): (lambda x: (x > 0) & (x < np.inf), "above 0"),
    ("outlier_location", "de_location", "batch_location", "dropout_mid"): (
        np.isfinite,
        "a finite number, the logarithm of a factor or mean",
    ),
    ("dropout_shape",): (lambda x: (x < 0) & (x > -np.inf), "below 0, so that low means are lost most often"),
}
"""Parameters -> (condition, what each must be)."""
BY_GROUP = ("path_skew",)
BY_LEVEL = ("de_probability", "de_location", "de_scale", "de_down")


def check(parameters: dict) -> None:
    """Raise ValueError for parameters that cannot be simulated; those left at None are missing from the dict."""
    for name in SIZES:
        _check_whole(name, parameters[name], 1)
    _check_whole("seed", parameters["seed"], 0)
    for names, (holds, needed) in RULES.items():
        for name in names:
            if name in parameters:
                _check_number(name, parameters[name], holds, needed)
    _check_nested(parameters)
    _check_paths(parameters)
    if "differential_distribution" in parameters:
        check_classes(parameters["differential_distribution"], parameters["n_genes"])
    _check_shares(parameters, "group_shares", "n_groups")
    _check_shares(parameters, "batch_shares", "n_batches")


def _check_whole(name: str, value, least: int) -> None:
    if not isinstance(value, Integral) or value < least:
        msg = f"{name} must be a whole number of at least {least}; got {value!r}."
        raise ValueError(msg)


def _check_number(name: str, value, holds, needed: str) -> None:
    if np.ndim(value) and name not in (*BY_LEVEL, *BY_GROUP):
        msg = f"{name} must be one number; got {_shown(value)}."
        raise ValueError(msg)
    if not (np.issubdtype(np.asarray(value).dtype, np.number) and np.all(holds(np.asarray(value)))):
        msg = f"{name} must be {needed}; got {_shown(value)}."
        raise ValueError(msg)


def _check_nested(parameters: dict) -> None:
    nested, n_groups = np.ravel(parameters.get("nested", [])).tolist(), parameters["n_groups"]
    for value in nested:
        _check_whole("A number in nested", value, 1)
    if any(fine < coarse for coarse, fine in pairwise([*nested, n_groups])):
        msg = (
            "nested must list numbers of groups, coarsest level first, none above n_groups, the number of the finest "
            f"groups, such as n_groups=59, nested=8; got nested={nested}, n_groups={n_groups}."
        )
        raise ValueError(msg)
    for name in BY_LEVEL:
        n_levels = len(nested) + 1
        if np.ndim(parameters[name]) and len(parameters[name]) != n_levels:
            msg = f"{name} must be one number or one for each of {n_levels} level(s); got {len(parameters[name])}."
            raise ValueError(msg)


def _check_paths(parameters: dict) -> None:
    n_groups, steps = parameters["n_groups"], np.ravel(parameters["path_steps"]).tolist()
    for value in steps:
        _check_whole("path_steps", value, 1)
    for name in ("path_steps", "path_skew"):
        if np.ndim(parameters[name]) and len(parameters[name]) != n_groups:
            msg = f"{name} must be one number or one for each of {n_groups} groups; got {len(parameters[name])}."
            raise ValueError(msg)
    _check_whole("switch_genes", parameters["switch_genes"], 0)
    if parameters["switch_genes"] > parameters["n_genes"]:
        msg = f"switch_genes={parameters['switch_genes']} is more than n_genes={parameters['n_genes']}."
        raise ValueError(msg)
    if parameters["switch_genes"] and "paths" not in parameters:
        msg = "Genes switch along a path: give paths, such as paths='linear', or leave switch_genes out."
        raise ValueError(msg)
    if "nested" in parameters and "paths" in parameters:
        msg = "paths are a tree of the groups themselves: leave nested out."
        raise ValueError(msg)


def _check_shares(parameters: dict, name: str, of: str) -> None:
    shares, n = parameters.get(name), parameters[of]
    if shares is None:
        return
    if np.shape(shares) != (n,):
        msg = f"{name} must have one number for each {name.split('_')[0]}, {of}={n}; got {np.size(shares)}."
        raise ValueError(msg)
    if not (np.all(np.isfinite(shares)) and np.min(shares) >= 0 and np.sum(shares) > 0):
        msg = f"{name} must be numbers of at least 0, not all 0; got {_shown(shares)}."
        raise ValueError(msg)


def _shown(value):
    return value.tolist() if isinstance(value, np.ndarray) else repr(value)
