"""Slices before and after: what is drawn are the stored positions, in the colour of the slice."""

import anndata as ad
import numpy as np
import pytest
from matplotlib import pyplot as plt

import dbx
from dbx.pl._palette import CATEGORIES


def test_positions_and_colours(rng):
    adata = ad.AnnData(np.zeros((7, 1), np.float32), obsm={"spatial": rng.normal(size=(7, 2))})
    adata.obs["slice"] = list("bbababb")
    with pytest.raises(KeyError, match=r"dbx.tl.align_slices"):
        dbx.pl.slices(adata, "slice", show=False)
    adata.obsm["spatial_aligned"] = rng.normal(size=(7, 2))
    figure = dbx.pl.slices(adata, "slice", return_fig=True)
    expected = [CATEGORIES["ab".index(name)] for name in adata.obs["slice"]]
    for ax, key in zip(figure.axes, ("spatial", "spatial_aligned"), strict=True):
        spots = ax.collections[0]
        np.testing.assert_array_equal(spots.get_offsets(), adata.obsm[key])
        assert [plt.matplotlib.colors.to_hex(colour) for colour in spots.get_facecolor()] == expected
    before, after = (ax.get_legend() for ax in figure.axes)
    assert before is None
    assert [after.get_title().get_text(), *(text.get_text() for text in after.get_texts())] == ["slice", "a", "b"]
    own = plt.subplots()[1]
    assert dbx.pl.slices(adata, "slice", ax=own, show=False) is own
    plt.close("all")
