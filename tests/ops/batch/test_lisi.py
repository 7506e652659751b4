"""The local inverse Simpson's index beside harmonypy's and where it is known."""

import numpy as np
import pandas as pd
import pytest
from harmonypy import compute_lisi
from sklearn.neighbors import NearestNeighbors

from dbx.ops.batch.lisi import lisi


@pytest.mark.parametrize("perplexity", [5, 17.5, 30])
def test_equals_harmonypy(rng, perplexity):
    x, label = rng.normal(size=(300, 4)), rng.choice(["a", "b", "c"], 300, p=[0.6, 0.3, 0.1])
    x[label == "b"] += 1
    distances, indices = NearestNeighbors(n_neighbors=int(3 * perplexity) + 1).fit(x).kneighbors(x)
    codes = pd.Categorical(label).codes.astype(np.int32)[indices[:, 1:]]
    ours = lisi(distances[:, 1:].astype(np.float32), codes, perplexity, n_levels=3)
    expected = compute_lisi(x, pd.DataFrame({"label": label}), ["label"], perplexity)[:, 0]
    np.testing.assert_allclose(ours, expected, rtol=2e-5)  # harmonypy stops at an entropy 1e-5 off


def test_known_values():
    distances = np.ones((2, 40), np.float32)
    codes = np.stack([np.arange(40) % 4, np.zeros(40)]).astype(np.int32)
    np.testing.assert_allclose(lisi(distances, codes, 10, n_levels=4), [4, 1], rtol=1e-6)  # all equally near
    np.testing.assert_allclose(lisi(0 * distances, codes, 10, n_levels=4), [4, 1], rtol=1e-6)  # copies of the cell


def test_scale_and_origin_of_distances_do_not_matter(rng):
    distances = rng.gamma(2, 1, (50, 30)).astype(np.float32)
    codes = rng.integers(3, size=(50, 30)).astype(np.int32)
    one = lisi(distances, codes, 8, n_levels=3)
    np.testing.assert_allclose(lisi(1e4 * distances, codes, 8, n_levels=3), one, rtol=1e-4)
    np.testing.assert_allclose(lisi(distances + 1, codes, 8, n_levels=3), one, rtol=1e-4)
