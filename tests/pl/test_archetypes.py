"""Cells between archetypes: positions are the weighted means of the corners."""

import anndata as ad
import numpy as np
import pytest
from matplotlib import pyplot as plt

import dbx


def drawn(ax):
    return np.concatenate([np.asarray(points.get_offsets()) for points in ax.collections])


@pytest.mark.parametrize("n", [3, 5])
def test_a_cell_is_at_the_mean_of_the_corners(n, rng):
    weights = np.concatenate([np.eye(n), np.full((1, n), 1 / n), rng.dirichlet(np.ones(n), 30)])
    adata = ad.AnnData(np.zeros((len(weights), 1), np.float32), obsm={"X_aa": weights})
    adata.uns["aa"] = {"explained_variance": 0.75}
    adata.obs["age"] = np.arange(len(weights), dtype=float)
    ax = dbx.pl.archetypes(adata, key="aa", color="age", show=False)
    at = drawn(ax)
    sides = np.linalg.norm(at[:n] - np.roll(at[:n], 1, axis=0), axis=1)
    np.testing.assert_allclose(sides, 2 * np.sin(np.pi / n))
    np.testing.assert_allclose(at[n], 0, atol=1e-12)
    np.testing.assert_allclose(at, weights @ at[:n], atol=1e-12)
    texts = {text.get_text(): np.array(text.get_position()) for text in ax.texts}
    for i in range(n):  # the number is beside the corner
        assert np.linalg.norm(at[:n] - texts[str(i)], axis=1).argmin() == i
    assert f"{n} archetypes, 75.0%" in ax.get_title()
    adata.X[:, 0] = np.arange(len(weights))[::-1]
    adata.var_names = ["Sox2"]
    by_gene = dbx.pl.archetypes(adata, key="aa", color="Sox2", show=False)
    np.testing.assert_array_equal(by_gene.collections[0].get_array(), adata.X[:, 0])
    plt.close("all")
    with pytest.raises(KeyError, match="color='Sox3' is neither a column of adata.obs nor a gene. Did you mean 'Sox2'"):
        dbx.pl.archetypes(adata, key="aa", color="Sox3", show=False)
    with pytest.raises(KeyError, match=r"dbx.tl.archetypes"):
        dbx.pl.archetypes(adata, show=False)
