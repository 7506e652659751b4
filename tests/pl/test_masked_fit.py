"""The drawn groups are means of the stored values, and the gain is that of the likelihood."""

import anndata as ad
import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy import sparse

import dbx


def test_groups_are_means_and_the_title_has_the_gain(rng):
    mean = rng.gamma(1, 2, (60, 20))
    counts = rng.poisson(mean).astype(np.float32)
    hidden = rng.random((60, 20)) < 0.3
    data = ad.AnnData(sparse.csr_matrix(counts), layers={"foundation_expected": mean})
    data.layers["mask"] = sparse.csr_matrix(hidden.astype(np.float32))
    ax = dbx.pl.masked_fit(data, mask="mask", show=False)
    x, y = mean[hidden], counts[hidden]
    order = np.argsort(x)
    parts = np.array_split(order, 20)
    line = ax.lines[0]
    np.testing.assert_allclose(line.get_xdata(), [x[part].mean() for part in parts])
    np.testing.assert_allclose(line.get_ydata(), [y[part].mean() for part in parts])
    shown = ~hidden
    share = (counts * shown).sum(axis=0) + 0.5
    share /= share.sum()
    flat = ((counts * shown).sum(axis=1) / (shown * share).sum(axis=1))[:, None] * share
    gain = ((flat - counts * np.log(flat)) - (mean - counts * np.log(mean)))[hidden].mean()
    assert ax.get_title() == f"{gain:.3f} nats per entry over gene means"
    assert f"{hidden.sum():,} entries" in ax.texts[0].get_text()
    plt.close("all")
    data.layers["none"] = sparse.csr_matrix(data.shape)
    with pytest.raises(ValueError, match="hides no entry"):
        dbx.pl.masked_fit(data, mask="none", show=False)
    with pytest.raises(KeyError, match=r"dbx.tl.foundation_model\(adata, expected=True\)"):
        dbx.pl.masked_fit(ad.AnnData(counts), show=False)
