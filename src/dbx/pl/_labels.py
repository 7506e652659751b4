"""Labels of points that do not overlap each other or, where there is room, other points."""

from __future__ import annotations

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation
from matplotlib.textpath import text_to_path
from matplotlib.transforms import Bbox

TURNS = np.deg2rad([0, 22.5, -22.5, 45, -45, 67.5, -67.5, 90, -90, 112.5, -112.5, 135, -135, 157.5, -157.5, 180])
"""Angles from a point to its label, from outwards to inwards."""
GAPS = (2, 8, 14, 21, 29, 39, 51, 65, 81, 100)
"""Gaps between the edge of a point and its label, in points."""
CLEAR, REACH = 2.5, 110.0
"""Distance within which another point makes a label ambiguous, and beyond which points are ignored, in points."""
COVERED, AWAY, TURNED, CROSSED = 1.0, 0.12, 0.15, 6.0
"""Penalties of a label's position: per square root of the covered points, per point of distance, per radian of turn,
and for crossing the line or the label of another point."""


def label_points(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    labels: Sequence[str],
    others: np.ndarray,
    *,
    radius: float = 2.0,
    fontsize: float = 7.5,
) -> None:
    """Write a label at each point (x, y), joined to it by a thin line where the two do not touch.

    Labels are placed whenever the figure is drawn, for its size and limits at that time. Each label in turn takes the
    position of lowest penalty among several around its point: near and outwards, inside the axes, clear of earlier
    labels and of text in the axes, and of as many as possible of the points ``others``, an array of shape
    (n_points, 2). ``radius`` is that of the points, in points of length.
    """
    places = np.column_stack([x, y])
    notes = [_write(ax, place, label, fontsize) for place, label in zip(places, labels, strict=True)]
    joins = [_join(ax, place) for place in places]
    ax.add_artist(_Placing(places, others, notes, joins, radius))


class _Placing(Artist):
    """Draws nothing itself: it is drawn first, and moves labels to their positions."""

    def __init__(self, places, others, notes: list[Annotation], joins: list[Annotation], radius: float):
        super().__init__()
        self.places, self.others, self.notes, self.joins, self.radius = places, others, notes, joins, radius
        self.set_zorder(-1e6)
        self.set_in_layout(False)

    def draw(self, renderer) -> None:
        """Place the labels for the size of the figure and the limits of the axes at this time."""
        ax: Any = self.axes
        scale = ax.figure.dpi / 72
        points = ax.transData.transform(self.places)
        crowd = np.concatenate([ax.transData.transform(np.reshape(self.others, (-1, 2))), points])
        frame = ax.get_window_extent()
        centre = (frame.x0 + frame.x1) / 2
        taken = _written(ax, {*self.notes, *self.joins})
        lines: list[np.ndarray] = []
        for point, note, join in zip(points, self.notes, self.joins, strict=True):
            half = _half_size(note, scale)
            turns = TURNS if point[0] >= centre else np.pi - TURNS
            near = crowd[(np.abs(crowd - point) < REACH * scale + 2 * half).all(axis=1)]
            near = near[(np.abs(near - point) > 0.1 * scale).any(axis=1)]  # without the point itself
            offset, gap = _best_offset(point, half, scale, self.radius, turns, near, taken, lines, frame)
            taken.append(_box(point + offset, half))
            note.set_position(tuple((offset - [half[0] - scale, 0]) / scale))
            join.set_visible(gap > GAPS[0])
            if gap > GAPS[0]:
                lines.append(np.stack([point, point + offset]))
                join.set_position(tuple(_edge(offset / scale, half / scale)))


def _written(ax: Axes, labels: AbstractSet[Artist]) -> list[np.ndarray]:
    """Boxes of the legend and of the text in the axes that is not among the labels."""
    artists = [*ax.texts, ax.get_legend()]
    return [np.array(artist.get_window_extent()) for artist in artists if artist is not None and artist not in labels]


def _write(ax: Axes, place: np.ndarray, label: str, fontsize: float) -> Annotation:
    return ax.annotate(
        label,
        tuple(place),
        (0, 0),
        textcoords="offset points",
        ha="left",
        va="center",
        fontsize=fontsize,
        parse_math=False,
        zorder=5,
        path_effects=[withStroke(linewidth=1.8, foreground="white", alpha=0.85)],
    )


def _half_size(note: Annotation, scale: float) -> np.ndarray:
    """Half the width and height of a label with a margin, in pixels.

    Text with a path effect is drawn as a path, which is wider than the hinted glyphs that its extent measures.
    """
    width, _, _ = text_to_path.get_text_width_height_descent(note.get_text(), note.get_fontproperties(), ismath=False)
    return np.array([width * scale, note.get_window_extent().height]) / 2 + scale


def _join(ax: Axes, place: np.ndarray) -> Annotation:
    """A line from a point to the edge of its label, which is not drawn before the label is placed."""
    line: dict[str, Any] = {"arrowstyle": "-", "color": "#7a7a7a", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 1.5}
    return ax.annotate("", tuple(place), (0, 0), textcoords="offset points", zorder=4, arrowprops=line, visible=False)


def _edge(offset: np.ndarray, half: np.ndarray) -> np.ndarray:
    """Where the line to a label ends: at its edge; lengths in points."""
    return offset * (1 - min(half / np.maximum(np.abs(offset), 1e-9)))


def _best_offset(point, half, scale, radius, turns, crowd, taken, lines, frame) -> tuple[np.ndarray, float]:
    """Offset from the point to the middle of its label, in pixels, and the gap between the two."""
    best, best_gap, best_cost = np.zeros(2), 0.0, np.inf
    for gap in GAPS:
        for turned, angle in zip(np.abs(TURNS), turns, strict=True):
            direction = np.array([np.cos(angle), np.sin(angle)])
            reach = min(half / np.maximum(np.abs(direction), 1e-9))  # from the middle of the label to its edge
            offset = direction * (reach + (radius + gap) * scale)
            cost = AWAY * gap + TURNED * turned
            if cost >= best_cost:
                continue
            cost += _cost(_box(point + offset, half), (radius + CLEAR) * scale, crowd, taken, frame)
            line = np.stack([point, point + offset])
            cost += CROSSED * sum(_cross(line, other) for other in lines)
            cost += CROSSED * sum(_enters(other, _box(point + offset, half)) for other in lines)
            if gap > GAPS[0]:
                cost += CROSSED * sum(_enters(line, box) for box in taken)
            if cost < best_cost:
                best, best_gap, best_cost = offset, gap, cost
    return best, best_gap


def _cost(box: np.ndarray, radius: float, crowd: np.ndarray, taken: list[np.ndarray], frame: Bbox) -> float:
    (left, bottom), (right, top) = box
    if left < frame.x0 or right > frame.x1 or bottom < frame.y0 or top > frame.y1:
        return 1e6
    clashes = sum(left < b[1, 0] and right > b[0, 0] and bottom < b[1, 1] and top > b[0, 1] for b in taken)
    inside = ((crowd > box[0] - radius) & (crowd < box[1] + radius)).all(axis=1)
    return 1e3 * clashes + COVERED * float(np.sqrt(inside.sum()))


def _cross(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two line segments, arrays of shape (2, 2) of their ends, cross."""
    (ax, ay), (bx, by) = a[1] - a[0], b[1] - b[0]
    turn = ax * by - ay * bx
    if turn == 0:
        return False
    dx, dy = b[0] - a[0]
    return 0 < (dx * by - dy * bx) / turn < 1 and 0 < (dx * ay - dy * ax) / turn < 1


def _enters(line: np.ndarray, box: np.ndarray) -> bool:
    """Whether a line crosses a box; it does if it crosses one of its diagonals or ends inside."""
    (left, bottom), (right, top) = box
    diagonals = np.array([[[left, bottom], [right, top]], [[left, top], [right, bottom]]])
    inside = ((line > box[0]) & (line < box[1])).all(axis=1).any()
    return bool(inside) or any(_cross(line, diagonal) for diagonal in diagonals)


def _box(middle: np.ndarray, half: np.ndarray) -> np.ndarray:
    return np.stack([middle - half, middle + half])
