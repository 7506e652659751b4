"""A centre slice: noisy copies of one known slice, turned, whose truth no single slice shows as well."""

import anndata as ad
import jax
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx
from dbx.ops.space.center_mixture import factorised, mixture
from dbx.program.record.registry import load

ANGLES = np.deg2rad([0.0, 70.0, 200.0])
TURNS = np.array([[[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]] for a in ANGLES])


def copies(turns=TURNS, names="abc", seed=0, depth=1.5):
    """Poisson counts of one tissue of three overlapping domains in an outline without symmetry; and its expression."""
    rng = np.random.default_rng(seed)
    place = np.array([(i, j) for i in range(12) for j in range(9) if i < 8 or j < 5], float)
    middles = np.array([[1.0, 2.0], [9.0, 1.0], [4.0, 7.0]])
    near = np.exp(-((place[:, None] - middles) ** 2).sum(axis=2) / 18)
    truth = depth * (near @ np.random.default_rng(7).gamma(0.4, 2.0, (3, 60)) + 0.02)
    data = []
    for turn, name in zip(turns, names, strict=True):
        obs = pd.DataFrame({"slice": [name] * len(place)}, index=[f"{name}{i}" for i in range(len(place))])
        one = ad.AnnData(rng.poisson(truth).astype(np.float32), obs)
        one.obsm["spatial"] = place @ turn.T + rng.normal(0, 20, 2)
        data.append(one)
    return ad.concat(data), place, truth


def likeness(found, truth):
    """Correlation of the spots' profiles, gene by gene centred."""
    return np.corrcoef((found - found.mean(0)).ravel(), (truth - truth.mean(0)).ravel())[0, 1]


def test_the_centre_is_nearer_the_truth_than_any_slice():
    adata, place, truth = copies()
    dbx.tl.align_slices(adata, "slice", method="center", n_components=3)
    found = adata.uns["align_slices"]
    np.testing.assert_allclose(found["rotation"], np.swapaxes(TURNS, 1, 2), atol=0.02)
    frame = adata.obsm["spatial"][: len(place)]
    for number in range(3):
        there = adata.obsm["spatial_aligned"][number * len(place) :][: len(place)]
        np.testing.assert_allclose(there, frame, atol=0.3)
    assert found["pairs"]["converged"].all()
    center = dbx.get.center_slice(adata)
    np.testing.assert_array_equal(center.obsm["spatial"], frame)
    single = max(likeness(adata.X[adata.obs["slice"] == name], truth) for name in "abc")
    assert likeness(center.X, truth) > 0.5 + 0.5 * single  # less than half as far from 1 as the best of the slices
    # with factors of the reference alone there is more noise than with all three
    alone = factorised(adata.X[: len(place)], 3, 0).product.toarray()
    assert likeness(center.X, truth) > likeness(alone, truth)


def test_mixture_is_the_mean_of_coupled_spots(rng):
    """By mass times the share of the slice; a spot of the centre with which nothing is coupled has no counts."""
    counts, plans = rng.poisson(3.0, (2, 5, 4)).astype(float), rng.uniform(size=(2, 3, 5))
    plans[:, 1] = 0
    found = mixture(list(map(sparse.csr_matrix, counts)), list(map(sparse.csr_matrix, plans)), [0.2, 0.8]).toarray()
    mass = np.concatenate([0.2 * plans[0], 0.8 * plans[1]], axis=1)
    for row in (0, 2):
        np.testing.assert_allclose(found[row], np.average(np.concatenate(counts), axis=0, weights=mass[row]))
    assert not found[1].any()


def test_factors_are_scikit_learns(slices):
    from sklearn.decomposition import NMF

    counts = sparse.csr_matrix(slices["counts0"])
    start = factorised(counts[::-1], 4, 1)  # other spots' factors
    found = factorised(counts, 4, 0, start)
    model = NMF(4, init="custom", solver="mu", beta_loss="kullback-leibler", max_iter=200)
    spots = model.fit_transform(counts, W=start.weights.copy(), H=start.genes.copy())
    np.testing.assert_allclose(found.product.toarray(), spots @ model.components_, rtol=1e-6, atol=1e-9)


def test_objective_is_of_the_stored_centre():
    adata, *_ = copies()
    weights = {"a": 1.0, "b": 2.0, "c": 1.0}
    dbx.tl.align_slices(adata, "slice", method="center", reference="b", slice_weights=weights, overlap=1.0)
    operator = load(adata)["center_slice"].build()
    found = adata.uns["align_slices"]
    with jax.enable_x64(True):
        values = np.asarray(operator.objective(np.asarray(adata.X, float), adata.obsm["spatial"]))
    np.testing.assert_allclose(values, found["pairs"]["objective"], rtol=1e-9)
    np.testing.assert_allclose(found["rounds"]["objective"].iloc[-1], np.mean(values) / 2, rtol=1e-9)
    assert list(found["pairs"]["first"]) == ["b", "b"]


def test_a_new_slice_is_aligned_with_the_centre():
    adata, place, _ = copies()
    dbx.tl.align_slices(adata, "slice", method="center", n_components=3)
    query, *_ = copies(TURNS[1:2], "d", seed=5)
    with pytest.warns(UserWarning, match="'d'"):
        dbx.rerun(query, adata)
    np.testing.assert_allclose(query.obsm["spatial_aligned"], adata.obsm["spatial"][: len(place)], atol=0.3)


@pytest.mark.parametrize(
    ("message", "settings"),
    [
        ("method must be", {"method": "centre"}),
        ("n_components must be", {"n_components": 0}),
        ("must have a weight for each", {"slice_weights": {"a": 1.0}}),
        (r"slice_weights\['b'\] must be", {"slice_weights": {"a": 1.0, "b": -1.0, "c": 1.0}}),
        ("remove use_rep", {"use_rep": "spatial"}),
        ("not converged in 1 rounds", {"max_rounds": 1, "overlap": 1.0}),
    ],
)
def test_wrong_input_in_words(message, settings):
    adata, *_ = copies()
    with pytest.raises(ValueError, match=message):
        dbx.tl.align_slices(adata, "slice", **{"method": "center", **settings})
    assert "align_slices" not in adata.uns
    assert "spatial_aligned" not in adata.obsm


def test_nothing_in_common_in_words():
    adata, *_ = copies()
    some = (adata.obs["slice"] == "c").to_numpy()
    adata.X[np.ix_(some, np.arange(30))] = 0
    adata.X[np.ix_(~some, np.arange(30, 60))] = 0
    with pytest.raises(ValueError, match="'c' shares no gene"):
        dbx.tl.align_slices(adata, "slice", method="center")
    with pytest.raises(KeyError, match="center"):
        dbx.get.center_slice(adata)
