"""Stretches along an axis, such as chromosomes or sequences: lines between them and their names below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NARROW = 0.02
"""Fraction of the width below which a stretch has no name."""
UPRIGHT = 8
"""Number of names of more than two letters above which they are turned."""


def stretches(ax: Axes, firsts: np.ndarray, n: int, names: Sequence[Any] | np.ndarray | None, color: Any) -> None:
    """Lines before all but the first stretch, and the names of those that are wide enough, at their middles.

    ``firsts`` are the places where they begin, of ``n`` places.
    """
    for first in firsts[1:]:
        ax.axvline(first - 0.5, color=color, linewidth=0.5, zorder=1)
    if names is None:
        return
    ends = np.append(firsts[1:], n)
    wide = ends - firsts >= NARROW * n
    labels = [str(name) for name, is_wide in zip(names, wide, strict=True) if is_wide]
    turned = len(labels) > UPRIGHT and max(map(len, labels)) > 2
    ax.set_xticks(((firsts + ends - 1) / 2)[wide], labels, rotation=90 if turned else 0, fontsize=8)
    ax.tick_params(axis="x", length=0)
