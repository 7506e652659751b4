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


def test_states_along_genes_are_an_image(rng):
    x = rng.normal(scale=0.3, size=(6, 40))
    x[:3, 5:15] += 4
    data = ad.AnnData(x)
    data.var["chromosome"], data.var["start"] = np.repeat(["chr2", "chr1"], 20), np.arange(40)[::-1]
    dbx.tl.hmm(data, 2, axis="var")
    image = dbx.pl.hmm(data, show=False).images[0]
    expected = np.concatenate(
        [data.layers["hmm_state"][:, :20][:, ::-1], data.layers["hmm_state"][:, 20:][:, ::-1]], axis=1
    )
    np.testing.assert_array_equal(image.get_array(), expected)
    assert [label.get_text() for label in image.axes.get_xticklabels()] == ["2", "1"]
    assert [text.get_text() for text in image.axes.get_legend().get_texts()] == ["0", "1"]
