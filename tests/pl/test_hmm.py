"""pl.hmm: what is drawn, beside the data."""

import anndata as ad
import numpy as np
import pytest

import dbx


def test_points_are_the_data_in_order_and_lines_the_means(rng):
    x = np.repeat([0.0, 5.0, 0.0], 20) + 0.2 * rng.normal(size=60)
    data = ad.AnnData(x[::-1, None].copy())
    data.obs["name"], data.obs["place"] = ["b"] * 30 + ["a"] * 30, np.arange(60.0)[::-1]
    dbx.tl.hmm(data, 2, sequence_key="name", position_key="place")
    ax = dbx.pl.hmm(data, show=False)
    points = ax.collections[0].get_offsets()
    np.testing.assert_allclose(points[:, 1], x)
    runs = [line for line in ax.lines if line.get_linewidth() == 1.5]
    assert [line.get_ydata()[0] for line in runs] == pytest.approx(dbx.get.segments(data)["mean"].tolist())
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]
    with pytest.raises(IndexError, match="below 1"):
        dbx.pl.hmm(data, feature=3, show=False)


def test_codes_are_at_their_state(rng):
    data = ad.AnnData(np.ones((60, 1)), obs={"base": np.repeat([0, 1, 0], 20)})
    dbx.tl.hmm(data, 2, emission="categorical", codes_key="base")
    ax = dbx.pl.hmm(data, show=False)
    at = ax.collections[0].get_offsets()[:, 1]
    np.testing.assert_array_equal(np.rint(at), data.obs["hmm_state"].cat.codes)
