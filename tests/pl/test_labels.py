"""Labels of points: away from words and crowds, with lines that do not cross."""

import numpy as np
import pytest
from matplotlib import pyplot as plt

from dbx.pl._labels import _cross, _enters, label_points


@pytest.fixture
def ax():
    ax = plt.subplots(figsize=(5, 4))[1]
    ax.set(xlim=(0, 1), ylim=(0, 1))
    return ax


def labelled(ax, x, y, labels, others=()):
    """Boxes of the labels and their points, in pixels, and how many are joined by a line."""
    before = len(ax.texts)
    label_points(ax, np.array(x), np.array(y), labels, np.reshape(others, (-1, 2)))
    ax.figure.draw_without_rendering()
    notes = [text for text in ax.texts[before:] if text.get_text()]
    boxes, points = zip(*[(note.get_window_extent(), ax.transData.transform(note.xy)) for note in notes], strict=True)
    joins = [text for text in ax.texts[before:] if not text.get_text() and text.get_visible()]
    return boxes, points, len(joins)


def test_a_label_stands_outwards_beside_its_point(ax):
    for x in (0.7, 0.3):
        (box,), (point,), n_lines = labelled(ax, [x], [0.5], ["gene"])
        assert (box.x0 > point[0]) if x > 0.5 else (box.x1 < point[0])
        assert box.y0 < point[1] < box.y1
        assert n_lines == 0


def test_a_label_keeps_clear_of_words(ax):
    word = ax.text(0.62, 0.5, "written before", va="center")
    (box,), (point,), _ = labelled(ax, [0.6], [0.5], ["gene"])
    assert not box.overlaps(word.get_window_extent())
    assert np.abs(np.array([box.x0 + box.width / 2, box.y0 + box.height / 2]) - point).max() < 60


def test_a_label_keeps_clear_of_other_points(ax):
    crowd = np.stack(np.meshgrid(np.linspace(0.62, 0.9, 20), np.linspace(0.4, 0.6, 20)), axis=-1).reshape(-1, 2)
    (box,), _, _ = labelled(ax, [0.6], [0.5], ["gene"], crowd)
    at = ax.transData.transform(crowd)
    assert not ((at > [box.x0, box.y0]) & (at < [box.x1, box.y1])).all(axis=1).any()


def test_a_label_stays_inside(ax):
    frame = ax.get_window_extent()
    for x, y in ((0.99, 0.99), (0.01, 0.01), (0.99, 0.5)):
        (box,), _, _ = labelled(ax, [x], [y], ["a long label"])
        assert frame.contains(box.x0, box.y0)
        assert frame.contains(box.x1, box.y1)


def test_crossing_is_seen():
    upward, downward = np.array([[0.0, 0], [2, 2]]), np.array([[0.0, 2], [2, 0]])
    assert _cross(upward, downward)
    assert not _cross(upward, downward + np.array([2.5, 0]))
    assert not _cross(upward, upward + np.array([0, 1]))
    box = np.array([[0.5, 0.5], [1.5, 1.5]])
    assert _enters(upward, box)
    assert _enters(np.array([[1.0, 1.0], [9, 9]]), box)
    assert not _enters(upward, box + np.array([2, 0]))


@pytest.mark.parametrize(("seed", "spread", "n"), [(1, 0.02, 16), (2, 0.05, 14)])
def test_labels_of_a_dense_cluster_can_be_told_apart(ax, seed, spread, n):
    x, y = np.random.default_rng(seed).normal(0.5, spread, (2, n))
    boxes, points, n_lines = labelled(ax, x, y, [f"gene{i}" for i in range(n)])
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    lines = [np.stack([p, [b.x0 + b.width / 2, b.y0 + b.height / 2]]) for p, b in zip(points, boxes, strict=True)]
    far = [i for i, line in enumerate(lines) if np.abs(np.diff(line, axis=0)).max() > 30]
    assert n_lines >= len(far) > 3
    # 7 and 4 without the price of crossing
    assert sum(_cross(lines[i], lines[j]) for i in far for j in far if j < i) <= 2
    if spread == 0.05:
        assert not any(_enters(lines[i], np.array(box)) for i in far for j, box in enumerate(boxes) if i != j)


def test_labels_follow_the_size_and_limits_of_the_figure(ax):
    x, y = np.random.default_rng(3).normal(0.5, 0.04, (2, 10))
    labelled(ax, x, y, [f"gene{i}" for i in range(10)])
    for size, limits in (((3, 2.5), (0.2, 0.8)), ((9, 7), (0, 1))):
        ax.figure.set_size_inches(size)
        ax.set(xlim=limits, ylim=limits)
        ax.figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in ax.texts if text.get_text()]
        assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
        frame = ax.get_window_extent()
        assert all(frame.contains(box.x0, box.y0) and frame.contains(box.x1, box.y1) for box in boxes)
