"""Smooth functions of position, and how many of them targets need."""

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.signalling.links import Moments
from dbx.ops.signalling.smooth import smooth_columns
from dbx.ops.signalling.target_model import Targets

rng = np.random.default_rng(0)
points, slices = rng.uniform(0, 30, (800, 2)), np.repeat([0, 1], 400)


def test_what_is_smooth_in_each_slice_is_in_their_span():
    columns, counts = smooth_columns(points, slices)
    np.testing.assert_array_equal(counts, [0, 2 * 3, 2 * 8])
    gradient = np.where(slices == 0, points[:, 0] * points[:, 1] / 400, np.sqrt(900 - points[:, 1] ** 2) / 15)
    within = np.mean([gradient[slices == code].var() for code in range(2)])
    for count, most in zip(counts, (1.001, 0.2, 0.06), strict=True):
        design = np.hstack([columns[:, :count], np.eye(2)[slices]])
        left = gradient - design @ np.linalg.lstsq(design, gradient, rcond=None)[0]
        assert left.var() < most * within
    np.testing.assert_allclose(columns, smooth_columns(points * 7 - 3, slices)[0], atol=1e-5)
    assert not columns[:400][:, np.abs(columns[400:]).max(axis=0) > 0].any()


def test_cells_on_a_line():
    line = np.stack([np.arange(200.0), np.zeros(200)], axis=1)
    assert np.isfinite(smooth_columns(line, np.zeros(200, int))[0]).all()


def test_there_are_few_of_many_cells_slices_or_axes():
    of_one = smooth_columns(np.random.default_rng(0).uniform(size=(20000, 2)), np.zeros(20000, int))[1]
    np.testing.assert_array_equal(of_one, np.arange(1, 11) ** 2 - 1)
    of_ten = smooth_columns(np.random.default_rng(0).uniform(size=(20000, 2)), np.arange(20000) % 10)[1]
    np.testing.assert_array_equal(of_ten, 10 * (np.arange(1, 5) ** 2 - 1))
    of_three_axes = smooth_columns(np.random.default_rng(0).uniform(size=(1000, 3)), np.zeros(1000, int))[1]
    np.testing.assert_array_equal(of_three_axes, np.arange(1, 4) ** 3 - 1)


def test_as_many_as_targets_need():
    columns, counts = smooth_columns(points, slices)
    base = np.hstack([np.ones((800, 1), np.float32), columns])
    noise = np.random.default_rng(1).normal(size=(800, 10)).astype(np.float32)

    def best(values):
        moments = Moments(lambda rows: base[rows], Targets.of(RowBlocks(values)), np.ones(800, bool))
        return moments.best_count(counts + 1)

    assert best(noise) == 1
    assert best(noise + columns[:, :1]) - 1 == counts[1]
    assert best(noise + columns[:, -1:]) - 1 == counts[2]
