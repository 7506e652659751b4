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
    for ax, key in zip(figure.axes, ("spatial", "spatial_aligned"), strict=True):
        for name, colour, spots in zip("ab", CATEGORIES[:2], ax.collections, strict=True):
            np.testing.assert_array_equal(spots.get_offsets(), adata.obsm[key][(adata.obs["slice"] == name).to_numpy()])
            assert plt.matplotlib.colors.to_hex(spots.get_facecolor()[0]) == colour
    own = plt.subplots()[1]
    assert dbx.pl.slices(adata, "slice", ax=own, show=False) is own
    plt.close("all")
