"""Labels of points that cover neither each other nor, where there is room, other points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.transforms import Bbox

TURNS = np.deg2rad([0, 22.5, -22.5, 45, -45, 67.5, -67.5, 90, -90, 112.5, -112.5, 135, -135, 157.5, -157.5, 180])
"""Directions from a point to its label, from outwards round to inwards."""
GAPS = (3, 8, 14, 21, 29, 39, 51, 65, 81, 100)
"""Gaps between a point and its label, in points."""
COVERED, AWAY, TURNED = 1.0, 0.12, 0.15
"""What it costs to cover a point, to be a point of length away, and to turn by a radian."""


def label_points(
    ax: Axes, x: np.ndarray, y: np.ndarray, labels: Sequence[str], others: np.ndarray, *, fontsize: float = 7.5
) -> None:
    """Write a label at each point (x, y), joined to it by a thin line where it stands apart.

    Each label in turn takes the cheapest of some places around its point: near and outwards, inside the axes, clear of
    the labels before it and of as many as can be of the points ``others``, an array of shape (n_points, 2).
    """
    ax.figure.draw_without_rendering()  # settles limits and layout
    scale = ax.figure.dpi / 72
    places = np.column_stack([x, y])
    points = ax.transData.transform(places)
    crowd = np.concatenate([ax.transData.transform(others), points])
    frame = ax.get_window_extent()
    centre = (frame.x0 + frame.x1) / 2
    taken: list[np.ndarray] = []
    for place, point, label in zip(places, points, labels, strict=True):
        note = _write(ax, place, label, fontsize)
        extent = note.get_window_extent()
        half = np.array([1.04 * extent.width, extent.height]) / 2 + 1.5 * scale  # text grows a little with resolution
        turns = TURNS if point[0] >= centre else np.pi - TURNS
        offset, gap = _best_offset(point, half, scale, turns, crowd, taken, frame)
        taken.append(_box(point + offset, half))
        note.set_position(tuple(offset / scale))
        if gap > GAPS[0]:
            _join(ax, place, offset / scale, half / scale)


def _write(ax: Axes, place: np.ndarray, label: str, fontsize: float):
    return ax.annotate(
        label,
        place,
        (0, 0),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=fontsize,
        zorder=5,
        path_effects=[withStroke(linewidth=1.8, foreground="white", alpha=0.85)],
    )


def _join(ax: Axes, place: np.ndarray, offset: np.ndarray, half: np.ndarray) -> None:
    """Draw a line from a point to the edge of its label; lengths in points."""
    edge = offset * (1 - min(half / np.maximum(np.abs(offset), 1e-9)))
    line = {"arrowstyle": "-", "color": "#7a7a7a", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 1.5}
    ax.annotate("", place, tuple(edge), textcoords="offset points", zorder=4, arrowprops=line)


def _best_offset(point, half, scale, turns, crowd, taken, frame) -> tuple[np.ndarray, float]:
    """From the point to the middle of its label, in pixels, and the gap between the two."""
    best, best_gap, best_cost = np.zeros(2), 0.0, np.inf
    for gap in GAPS:
        for turned, angle in zip(np.abs(TURNS), turns, strict=True):
            direction = np.array([np.cos(angle), np.sin(angle)])
            reach = min(half / np.maximum(np.abs(direction), 1e-9))  # from the middle of the label to its edge
            offset = direction * (reach + gap * scale)
            cost = AWAY * gap + TURNED * turned + _cost(_box(point + offset, half), crowd, taken, frame)
            if cost < best_cost:
                best, best_gap, best_cost = offset, gap, cost
    return best, best_gap


def _cost(box: np.ndarray, crowd: np.ndarray, taken: list[np.ndarray], frame: Bbox) -> float:
    (left, bottom), (right, top) = box
    if left < frame.x0 or right > frame.x1 or bottom < frame.y0 or top > frame.y1:
        return 1e6
    clashes = sum(left < b[1, 0] and right > b[0, 0] and bottom < b[1, 1] and top > b[0, 1] for b in taken)
    inside = (crowd[:, 0] > left) & (crowd[:, 0] < right) & (crowd[:, 1] > bottom) & (crowd[:, 1] < top)
    return 1e3 * clashes + COVERED * int(inside.sum())


def _box(middle: np.ndarray, half: np.ndarray) -> np.ndarray:
    return np.stack([middle - half, middle + half])
