"""Columns of a design: factors and numbers, with what is doubtful about them in words."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dbx.ops.checks import listed
from dbx.ops.values import Codes

MAX_SCALE = 5
"""From this mean or spread on DESeq2 advises to centre and scale a covariate."""
MAX_BINARY = 2
"""A number of so many values may as well be a factor."""


def design_frame(columns: Mapping[str, Codes | np.ndarray], ways: Mapping[str, set[str]], n_samples: int):
    """Columns of a design as (frame, notes).

    Levels that no sample has are dropped. Columns of text or of booleans, and numbers that the formula takes as a
    factor (``C(batch)``), become factors.

    Parameters
    ----------
    columns
        Columns by name, each of ``n_samples`` values.
    ways
        How the formula takes each column, as returned by :func:`dbx.ops.de.design.formula.uses`.
    n_samples
        Number of samples.

    Raises
    ------
    ValueError
        A column has another length, missing or infinite values, or a single level.
    """
    import pandas as pd

    frame, notes = {}, []
    for name, column in columns.items():
        way = ways.get(name, {"plain"})
        n_values = len(column)
        if n_values != n_samples:
            msg = f"{name!r} has {n_values} values for {n_samples} samples."
            raise ValueError(msg)
        column = column if isinstance(column, Codes) else np.asarray(column)
        if not isinstance(column, Codes) and (column.dtype.kind not in "iuf" or way == {"C"}):
            column = _as_factor(column)
        if isinstance(column, Codes):
            frame[name], of_column = _factor(name, column)
        else:
            frame[name], of_column = _number(name, column, "plain" in way)
        notes += of_column
    return pd.DataFrame(frame, index=range(n_samples)), notes


def _as_factor(column: np.ndarray) -> Codes:
    """Numbers in their order, named as one writes them (2, not 2.0); anything else by its text."""
    import pandas as pd

    present = ~pd.isna(column)
    levels, codes = np.unique(
        column[present] if column.dtype.kind in "iuf" else column[present].astype(str), return_inverse=True
    )
    names = tuple(f"{level:.15g}" if column.dtype.kind in "iuf" else str(level) for level in levels)
    all_codes = np.full(len(column), -1, np.int32)
    all_codes[present] = codes
    return Codes(all_codes, names)


def _factor(name: str, column: Codes):
    import pandas as pd

    codes = np.asarray(column.codes)
    _check_complete(name, codes < 0)
    there = np.bincount(codes, minlength=column.n_levels) > 0
    levels = [level for level, kept in zip(column.levels, there, strict=True) if kept]
    if len(levels) < 2:
        one = f"the one level {levels[0]!r}" if levels else "no level"
        msg = f"{name!r} has {one} and explains nothing: leave it out of the design."
        raise ValueError(msg)
    gone = [level for level, kept in zip(column.levels, there, strict=True) if not kept]
    notes = [f"No sample has these levels of {name!r}, which are dropped: {listed(gone)}."] if gone else []
    return pd.Categorical.from_codes((np.cumsum(there) - 1)[codes], levels), notes


def _number(name: str, column: np.ndarray, plain: bool) -> tuple[np.ndarray, list[str]]:
    values = column.astype(np.float64)
    _check_complete(name, np.isnan(values))
    if not np.isfinite(values).all():
        msg = f"{name!r} has {int(np.isinf(values).sum())} infinite values: correct them, or drop these samples first."
        raise ValueError(msg)
    if not plain:
        return values, []
    different = np.unique(values)
    if MAX_BINARY < len(different) <= len(values) // 2 and (different == np.round(different)).all():
        note = (
            f"{name!r} is taken as a number with the values {', '.join(f'{value:.15g}' for value in different[:6])}"
            f"{' ...' if len(different) > 6 else ''}, one coefficient for all steps between them; if they are names of "
            f"groups, write C({name}) in the design."
        )
        return values, [note]
    mean, spread = values.mean(), values.std(ddof=1) if len(values) > 1 else 0.0
    if max(abs(mean), spread) > MAX_SCALE:
        note = (
            f"{name!r} has a mean of {mean:.3g} and a standard deviation of {spread:.3g}; scale({name}) in the design "
            "is easier to fit, with an intercept and a coefficient that are easier to read."
        )
        return values, [note]
    return values, []


def _check_complete(name: str, missing: np.ndarray) -> None:
    if missing.any():
        where = np.flatnonzero(missing)
        msg = (
            f"{name!r} has {len(where)} missing values (the first in sample number {where[0]}): fill them, drop these "
            "samples first, or leave the column out of the design."
        )
        raise ValueError(msg)
