"""Cells of each slice are at their positions, in the colours of their domains."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import dbx
from dbx.pl._palette import colours


def test_each_slice_has_a_panel_and_a_domain_one_colour(rng):
    adata = ad.AnnData(np.zeros((30, 1), np.float32), obsm={"spatial": rng.uniform(size=(30, 2))})
    adata.obs["slice"] = pd.Categorical(["b"] * 20 + ["a"] * 10)
    adata.obs["spatial_domain"] = pd.Categorical(["1"] * 15 + ["2"] * 15, ["0", "1", "2"])
    figure = dbx.pl.spatial_domains(adata, batch_key="slice", return_fig=True)
    panels = [panel for panel in figure.axes if panel.get_title()]
    assert [panel.get_title() for panel in panels] == ["a", "b"]
    for panel, rows in zip(panels, (slice(20, 30), slice(0, 20)), strict=True):
        points = panel.collections[0]
        np.testing.assert_allclose(points.get_offsets(), adata.obsm["spatial"][rows])
        codes = adata.obs["spatial_domain"].cat.codes.to_numpy()[rows]
        expected = [plt.matplotlib.colors.to_rgb(colours(3)[code]) for code in codes]
        np.testing.assert_allclose(points.get_facecolors()[:, :3], expected)
        assert panel.get_aspect() == 1
        assert panel.yaxis_inverted()
    plt.close("all")
    adata.obs["depth"] = np.arange(30.0)
    figure = dbx.pl.spatial_domains(adata, "depth", batch_key="slice", return_fig=True)
    drawn = [panel.collections[0] for panel in figure.axes if panel.get_title()]
    assert [points.get_clim() for points in drawn] == [(0, 29), (0, 29)]  # one colour bar for both
    adata.obs["type"] = ["x"] * 20 + ["y"] * 10  # not categorical, each level in one slice
    figure = dbx.pl.spatial_domains(adata, "type", batch_key="slice", return_fig=True)
    drawn = [panel.collections[0].get_facecolors()[0, :3] for panel in figure.axes]
    np.testing.assert_allclose(drawn, [plt.matplotlib.colors.to_rgb(colours(2)[code]) for code in (1, 0)])
    plt.close("all")
    with pytest.raises(KeyError, match="obsm"):
        dbx.pl.spatial_domains(adata, spatial_key="xy")
    del adata.obs["spatial_domain"]
    with pytest.raises(KeyError, match="dbx.tl.spatial_domains"):
        dbx.pl.spatial_domains(adata)
