"""p-values adjusted for the number of tests."""

from __future__ import annotations

import numpy as np


def false_discovery_rates(pvalue: np.ndarray) -> np.ndarray:
    """Adjusted p-values along the last axis (Benjamini and Hochberg, J. R. Stat. Soc. B, 1995).

    The same numbers as :func:`scipy.stats.false_discovery_control`, without the half second that its import takes.
    """
    order = np.argsort(pvalue, axis=-1)
    n_tests = pvalue.shape[-1]
    rate = np.take_along_axis(pvalue, order, axis=-1) * (n_tests / np.arange(1, n_tests + 1))
    rate = np.minimum.accumulate(rate[..., ::-1], axis=-1)[..., ::-1]
    adjusted = np.empty_like(rate)
    np.put_along_axis(adjusted, order, np.minimum(rate, 1), axis=-1)
    return adjusted
