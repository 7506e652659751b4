"""Contrasts of the coefficients of a design: two levels, one coefficient, a combination of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dbx.ops.checks import did_you_mean, listed
from dbx.ops.de.design.combination import combined
from dbx.ops.de.design.contrast_names import Known, known_names
from dbx.ops.de.design.design import Design
from dbx.ops.de.design.factor_coding import factor_coding, factors
from dbx.ops.de.design.formula import columns_of

Contrast = str | Sequence[str] | Sequence[float] | np.ndarray | None

ROUNDING = 1e-9
TRUTH = {"True": 1.0, "False": 0.0}
"""Booleans as numbers."""


def contrast_vector(design: Design, contrast: Contrast) -> np.ndarray:
    """Weights of the coefficients in a contrast, an array of shape (n_coefficients,).

    Parameters
    ----------
    design
        The design.
    contrast
        None is the last coefficient. ``("dex", "trt", "untrt")`` compares two levels of a factor; where it interacts
        with other columns, at the reference of other factors (the first level, if they have no treatment coding) and
        where the columns of covariates are zero, as DESeq2 does. A text is a coefficient by its name
        (``"dex[T.trt]"``) or by DESeq2's (``"dex_trt_vs_untrt"``), or a linear combination of them, in which a factor's
        name followed by a level's stands for the mean of the level: ``"conditionB - conditionA"``. Numbers are the
        weights themselves.

    Raises
    ------
    ValueError
        There is no such coefficient, factor or level; the text is not a linear combination; the numbers do not fit.
    """
    if contrast is None:
        return np.eye(len(design.names))[-1]
    pair = two_levels(design, contrast)
    if pair:
        return _comparison(design, *pair)
    if isinstance(contrast, str):
        return _combination(design, contrast)
    return _weights(design, contrast)


def contrast_all_zero(design: Design, contrast: Contrast) -> np.ndarray | None:
    """Samples of either level in a comparison of two, an array of shape (n_samples,), bool; None for other contrasts.

    A gene without a count in any of them has nothing to compare (DESeq2 reports no change for it).
    """
    pair = two_levels(design, contrast)
    if pair is None:
        return None
    _check_levels(design, *pair)
    return design.frame[pair[0]].isin(pair[1:]).to_numpy()


def two_levels(design: Design, contrast: Contrast) -> tuple[str, str, str] | None:
    """(factor, level, reference) of a contrast that compares two levels; None for other contrasts."""
    if isinstance(contrast, str):
        tokens = known_names(design).split(contrast)
        levels = [token.level for token in tokens if isinstance(token, Known) and token.level]
        if len(tokens) == 3 and tokens[1] == "-" and len(levels) == 2 and levels[0][0] == levels[1][0]:
            return (*levels[0], levels[1][1])
        return None
    if contrast is None or not any(isinstance(part, str) for part in contrast):
        return None
    if len(contrast) != 3 or not isinstance(contrast[0], str):
        msg = f'A contrast of levels is (factor, level, reference), such as ("dex", "trt", "untrt"), not {contrast!r}.'
        raise ValueError(msg)
    factor, level, reference = map(str, contrast)
    return factor, _meant(design, factor, level), _meant(design, factor, reference)


def _meant(design: Design, factor: str, given: str) -> str:
    """A level by its name or, where none is called so, by its value: 2 for "2.0", True for "1"."""
    names = list(design.frame[factor].cat.categories) if factor in factors(design) else []
    alike = [name for name in names if _value(name) == _value(given) is not None]
    return alike[0] if given not in names and len(alike) == 1 else given


def _value(text: str) -> float | None:
    try:
        return TRUTH[text] if text in TRUTH else float(text)
    except ValueError:
        return None


def _comparison(design: Design, factor: str, level: str, reference: str) -> np.ndarray:
    _check_levels(design, factor, level, reference)
    rows = factor_coding(design, factor)
    vector = _without_slopes(design, rows[level] - rows[reference])
    if not vector.any():
        msg = f"The contrast compares {level!r} with itself or with a level that {design.formula} does not tell apart."
        raise ValueError(msg)
    return vector


def _without_slopes(design: Design, vector: np.ndarray) -> np.ndarray:
    """The comparison where covariates' own columns are zero, as DESeq2's coefficient of the factor is."""
    covariates = {name for name in design.frame if not hasattr(design.frame[name], "cat")}
    kept = vector.copy()
    for term, indices in design.spec.term_indices.items():
        if covariates & {name for part in term.factors for name, _ in columns_of(part)}:
            kept[list(indices)] = 0
    return kept if kept.any() else vector


def _check_levels(design: Design, factor: str, level: str, reference: str) -> None:
    if design.frame is None:
        msg = (
            f"A design matrix has no factors, so {(factor, level, reference)!r} cannot be compared: name one of its "
            f"columns ({listed(design.names)}), combine them in a text, or give a weight for each."
        )
        raise ValueError(msg)
    if factor not in design.frame:
        hint = did_you_mean(factor, design.frame.columns)
        msg = f"There is no factor {factor!r} in {design.title}; there are {listed(design.frame.columns)}.{hint}"
        raise ValueError(msg)
    column = design.frame[factor]
    if not hasattr(column, "cat"):
        msg = (
            f"{factor!r} is a number: write C({factor}) in the design to compare its values as levels, or name its "
            f"coefficient, one of {listed(design.names)}."
        )
        raise ValueError(msg)
    levels = list(column.cat.categories)
    for one in (level, reference):
        if one not in levels:
            msg = f"{factor!r} has no level {one!r}; it has {listed(levels)}.{did_you_mean(one, levels)}"
            raise ValueError(msg)


def _combination(design: Design, text: str) -> np.ndarray:
    tokens = known_names(design).split(text)
    factors = list(dict.fromkeys(token.level[0] for token in tokens if isinstance(token, Known) and token.level))
    both = combined(text, [_with_balance(token, factors) if isinstance(token, Known) else token for token in tokens])
    vector, balance = np.split(both, [len(design.names)])
    lopsided = [factor for factor, total in zip(factors, balance, strict=True) if abs(total) > ROUNDING]
    if lopsided and "Intercept" in design.names:
        msg = (
            f"The contrast {text!r} takes means of levels of {lopsided[0]!r} whose weights do not sum to zero, so it "
            f"compares them with nothing. Write a difference of levels, or the name of a coefficient: "
            f"{listed(design.names)}."
        )
        raise ValueError(msg)
    if not np.any(vector):
        msg = f"The contrast {text!r} is zero: nothing is compared."
        raise ValueError(msg)
    return vector + 0.0  # without negative zeros


def _with_balance(token: Known, factors: list[str]) -> np.ndarray:
    """Weights of the coefficients, then for each factor one if it is the mean of one of its levels."""
    return np.concatenate([token.vector, [token.level is not None and token.level[0] == name for name in factors]])


def _weights(design: Design, contrast: Sequence[str] | Sequence[float] | np.ndarray) -> np.ndarray:
    weights = np.asarray(contrast, np.float64)
    if weights.shape != (len(design.names),):
        msg = (
            f"A contrast of numbers needs one for each of the {len(design.names)} coefficients "
            f"({listed(design.names)}); its shape is {weights.shape}."
        )
        raise ValueError(msg)
    if not np.isfinite(weights).all() or not weights.any():
        msg = f"The weights of a contrast are finite numbers, some of them not zero; they are {weights.tolist()}."
        raise ValueError(msg)
    return weights
