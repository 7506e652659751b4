"""Halves of violins with their mixtures."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from scipy import stats

import dbx


@pytest.fixture(scope="module")
def cells():
    rng = np.random.default_rng(0)
    b = np.arange(200) >= 100
    x = rng.normal(2, 0.2, (200, 4)) + 0.9 * (rng.random((200, 4)) < 0.5)
    x[b, 0] = rng.normal(4, 0.3, 100)
    x[~b, 0] = rng.normal(2, 0.3, 100)
    x[:10, 0] = 0
    made = ad.AnnData(x.astype(np.float32), obs={"condition": pd.Categorical(np.where(b, "stim", "ctrl"))})
    dbx.tl.differential_distribution(made, "condition", max_components=2)
    yield made
    plt.close("all")


def test_curves_are_the_mixtures(cells):
    ax = dbx.pl.differential_distribution(cells, "0", show=False)
    left, right = ax.lines[:2]
    for line, side, rows in ((left, -1, slice(10, 100)), (right, 1, slice(100, 200))):
        values = cells.X[rows, 0]
        density = stats.norm.pdf(line.get_ydata(), values.mean(), values.std())
        drawn = side * line.get_xdata()
        np.testing.assert_allclose(drawn / drawn.max(), density / density.max(), atol=0.02)
    assert [text.get_text() for text in ax.get_xticklabels()] == ["ctrl", "stim"]
    assert [text.get_text() for text in ax.texts] == ["10% zeros", "0% zeros"]
    assert "DE" in ax.get_title()


def test_panels_and_wrong_genes(cells):
    figure = dbx.pl.differential_distribution(cells, n_genes=3, return_fig=True)
    assert len(figure.axes) == 3
    assert figure.axes[0].get_title().startswith("0:")
    with pytest.raises(ValueError, match="No gene 'x'"):
        dbx.pl.differential_distribution(cells, ["x"], show=False)
    with pytest.raises(ValueError, match="No gene is of class 'DB'"):
        dbx.pl.differential_distribution(cells, category="DB", show=False)
    other = cells.copy()
    del other.uns["dbx"]
    with pytest.raises(ValueError, match="No recorded step"):
        dbx.pl.differential_distribution(other, "0", show=False)
