"""Settings of a test for differential expression, checked and brought to plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from dbx.ops.checks import check_known
from dbx.ops.de.results.wald import ALTERNATIVES

SIZE_FACTORS = ("ratio", "poscounts", "iterate", "deges")
"""Size factors that are computed; any other name is a column's."""
CHOICES = {
    "test": ("wald", "lrt"),
    "fit_type": ("parametric", "local", "mean"),
    "dispersion": ("deseq2", "exact"),
    "shrink": (None, "apeglm", "normal"),
    "alternative": (*ALTERNATIVES.values(), *ALTERNATIVES),
}


def check_choices(**chosen: str | None) -> None:
    """Refuse a choice that does not exist."""
    for name, value in chosen.items():
        check_known(value, CHOICES[name], name)


def check_numbers(*, alpha: float, lfc_threshold: float, min_mu: float | None, min_cells: int) -> None:
    """Refuse numbers out of range, and values that are not numbers."""
    if not (_is_number(alpha) and 0 < alpha < 1):
        msg = f"alpha={alpha!r} must be a false discovery rate between 0 and 1."
        raise ValueError(msg)
    if not (_is_number(lfc_threshold) and lfc_threshold >= 0):
        msg = f"lfc_threshold={lfc_threshold!r} must be a number, log2, of at least 0."
        raise ValueError(msg)
    if min_mu is not None and not (_is_number(min_mu) and min_mu > 0):
        msg = f"min_mu={min_mu!r} must be a number of counts above 0, or None."
        raise ValueError(msg)
    if not (_is_number(min_cells) and min_cells >= 0):
        msg = f"min_cells={min_cells!r} must be a number of cells, not negative."
        raise ValueError(msg)


def check_test(test: str, reduced: Any, lfc_threshold: float, alternative: str) -> None:
    """Refuse a threshold, an alternative or a reduced design that the test has no use for."""
    if (test == "lrt") != (reduced is not None):
        msg = 'test="lrt" compares with a reduced design, such as reduced="~ batch"; other tests take none.'
        raise ValueError(msg)
    alternative = ALTERNATIVES.get(alternative, alternative)
    if test == "lrt" and (lfc_threshold or alternative != "two-sided"):
        msg = 'A likelihood ratio test has no threshold and no alternative: use test="wald".'
        raise ValueError(msg)
    if alternative == "less-abs" and lfc_threshold == 0:
        msg = "alternative='less-abs' needs one above 0: lfc_threshold=1, for a change of less than twofold."
        raise ValueError(msg)


def plain_contrast(contrast: Any) -> str | tuple[str, ...] | tuple[float, ...] | None:
    """A contrast as plain values: a text; names of a factor and two levels; or a weight for each coefficient.

    Levels may be given by value, as booleans and numbers in a column are.

    Raises
    ------
    ValueError
        It is none of these.
    """
    if contrast is None or isinstance(contrast, str):
        return contrast
    parts = _listed(contrast)
    if parts and isinstance(parts[0], str) and not any(_listed(part) is not None for part in parts):
        return tuple(map(str, parts))
    if parts and all(_is_number(part) for part in parts):
        return tuple(map(float, parts))
    hint = " Test several contrasts one after the other." if parts and _listed(parts[0]) is not None else ""
    msg = (
        'contrast must be two levels, such as ("condition", "treated", "control"), the name of a coefficient or a '
        f"combination of them as a text, or a weight for each coefficient; got {contrast!r}.{hint}"
    )
    raise ValueError(msg)


def plain_reduced(reduced: Any) -> str | tuple[str, ...] | None:
    """A reduced design as plain values: a formula, or the names of a design matrix's columns.

    Raises
    ------
    ValueError
        It is neither.
    """
    if reduced is None or isinstance(reduced, str):
        return reduced
    names = _listed(reduced)
    if names is None:
        msg = f'reduced must be a formula such as "~ batch", or names of columns of the design matrix; got {reduced!r}.'
        raise ValueError(msg)
    return tuple(map(str, names))


def check_size_factors(size_factors: Any) -> None:
    """Refuse anything but a name."""
    if not isinstance(size_factors, str):
        msg = (
            f"size_factors must be one of {', '.join(map(repr, SIZE_FACTORS))}, or the name of a column of obs; got "
            f"{type(size_factors).__name__}. Put values of your own into a column first: adata.obs['factors'] = ..."
        )
        raise ValueError(msg)


def _listed(value: Any) -> list | None:
    """The items of a list, tuple, array or the like; None of a scalar, a text, a dict or a set."""
    if isinstance(value, str | Mapping | set | frozenset):
        return None
    try:
        return list(value)
    except TypeError:
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, Real | np.bool_) and not math.isnan(value)
