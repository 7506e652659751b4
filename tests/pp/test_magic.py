"""MAGIC beside stored results of magic-impute 3.0, beside the truth of simulated cells, and for new cells."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import dbx
from dbx.program import SlotError

STORED = Path(__file__).parents[1] / "reference" / "magic.npz"
"""Roots of counts of 160 cells and 24 genes, and every third gene by magic-impute 3.0.0 with n_pca=None."""


@pytest.fixture(scope="module")
def stored():
    return dict(np.load(STORED))


@pytest.fixture
def roots(stored):
    return ad.AnnData(stored["x"].copy())


@pytest.fixture(scope="module")
def cells():
    """Cells along two lines with expected counts: (data with linear values and log components, expectations)."""
    rng = np.random.default_rng(0)
    at, branch = rng.uniform(0, 1, 240), rng.integers(0, 2, 240)
    shapes = rng.gamma(1, 1, (2, 4, 40)) * rng.lognormal(0, 1.5, 40)
    near = np.exp(-(((at[:, None] - np.linspace(0, 1, 4)) / 0.3) ** 2))
    means = np.einsum("ik,ikg->ig", near, shapes[branch])
    means /= means.sum(axis=1, keepdims=True)
    data = ad.AnnData(sparse.csr_matrix(rng.poisson(means * 150).astype(np.float32)))
    data.obs_names = [f"c{i}" for i in range(240)]
    dbx.pp.normalize_total(data)
    data.layers["linear"] = data.X.copy()
    dbx.pp.log1p(data)
    dbx.pp.pca(data, n_comps=10)
    return data, means


def correlation(values, truth):
    return np.median([np.corrcoef(a, b)[0, 1] for a, b in zip(np.asarray(values).T, truth.T, strict=True)])


SETTINGS = {
    "t1": {"t": 1},
    "t3": {},
    "decay15": {"decay": 15, "knn_max": 30},
    "knn10": {"t": 5, "knn": 10},
    "auto": {"t": "auto"},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_as_magic_impute(roots, stored, name):
    dbx.pp.magic(roots, n_pca=None, **SETTINGS[name])
    np.testing.assert_allclose(roots.layers["magic"][:, ::3], stored[name], rtol=1e-5)  # both stored in float32
    np.testing.assert_array_equal(roots.X, stored["x"])


def test_all_components_are_all_genes(roots):
    one = dbx.pp.magic(roots, n_pca=None, copy=True).layers["magic"]
    two = dbx.pp.magic(roots, copy=True)
    np.testing.assert_allclose(two.layers["magic"], one, rtol=1e-4)
    assert two.obsm["magic_components"].shape == (160, 24)


def test_nearer_to_the_truth_and_on_the_scale_of_the_values(cells):
    data, means = cells
    found = dbx.pp.magic(data, layer="linear", use_rep="X_pca", copy=True)
    raw = correlation(data.layers["linear"].toarray(), means)
    assert correlation(found.layers["magic"], means) > raw + 0.2
    assert found.uns["magic"]["scale"] == "linear"
    assert dbx.pp.magic(data, use_rep="X_pca", copy=True).uns["magic"]["scale"] == "log1p"


def test_named_genes_components_and_the_approximate_solver(cells):
    data, _ = cells
    whole = dbx.pp.magic(data, layer="linear", use_rep="X_pca", copy=True)
    some = dbx.pp.magic(data, ["30", "2"], layer="linear", use_rep="X_pca", copy=True)
    assert list(some.uns["magic"]["genes"]) == ["2", "30"]
    np.testing.assert_allclose(some.obsm["X_magic"], whole.layers["magic"][:, [2, 30]], rtol=1e-6)
    assert "magic" not in some.layers
    walk = sparse.diags(1 / np.asarray(whole.obsp["magic_connectivities"].sum(axis=1)).ravel())
    walk = walk @ whole.obsp["magic_connectivities"]
    parts = dbx.pp.magic(data, "pca_only", use_rep="X_pca", copy=True)
    np.testing.assert_allclose(parts.obsm["X_magic_pca"], walk @ walk @ walk @ data.obsm["X_pca"], atol=1e-4)
    for names in (None, ["30", "2"]):
        few = dbx.pp.magic(data, names, layer="linear", use_rep="X_pca", solver="approximate", copy=True)
        values = few.layers["magic"] if names is None else few.obsm["X_magic"]
        expected = whole.layers["magic"] if names is None else whole.layers["magic"][:, [2, 30]]
        # all 40 components but rounding; float32 sums of values up to 30
        np.testing.assert_allclose(values, expected, atol=1e-3)
        assert values.min() >= 0


def test_new_cells_and_the_reference_itself(cells):
    data, means = cells
    half = data[:120].copy()
    del half.uns["dbx"]
    dbx.pp.magic(half, layer="linear", use_rep="X_pca")
    again = half.copy()
    dbx.rerun(again)
    np.testing.assert_array_equal(again.layers["magic"], half.layers["magic"])
    new = data[120:].copy()
    del new.uns["dbx"]
    new.obs_names = [f"new{i}" for i in range(120)]
    dbx.rerun(new, half)
    assert "magic_reference" not in new.layers
    together = dbx.pp.magic(data, layer="linear", use_rep="X_pca", copy=True).layers["magic"][120:]
    scores = [correlation(values, means[120:]) for values in (new.layers["magic"], together)]
    assert scores[0] > scores[1] - 0.05  # from half of the cells
    copies = half.copy()
    del copies.uns["dbx"], copies.layers["magic"]
    copies.obs_names = [f"copy{i}" for i in range(120)]
    dbx.rerun(copies, half)
    assert correlation(copies.layers["magic"], half.layers["magic"]) > 0.99


WRONG = {
    "t must be": ({"t": 0}, ValueError),
    't must be a number or "auto"': ({"t": "aut"}, ValueError),
    "knn=160": ({"knn": 160}, ValueError),
    "knn_max must be": ({"knn_max": 2}, ValueError),
    "decay must be": ({"decay": 0}, ValueError),
    "solver must be": ({"solver": "quick"}, ValueError),
    "Did you mean '3'": ({"name_list": ["33"]}, KeyError),
    "names no gene": ({"name_list": []}, ValueError),
    "needs components": ({"name_list": "pca_only", "n_pca": None}, ValueError),
    "is not in adata.obsm": ({"use_rep": "X_pca"}, SlotError),
    "metric 'far'": ({"knn_dist": "far"}, KeyError),
    "NaN": ({"layer": "holes", "use_rep": "X"}, ValueError),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_input_changes_nothing(roots, message):
    settings, error = WRONG[message]
    roots.layers["holes"] = np.where(np.arange(24) == 3, np.nan, roots.X)
    with pytest.raises(error, match=message):
        dbx.pp.magic(roots, **settings)
    slots = [roots.uns, roots.obsm, roots.varm, roots.obsp, roots.obs.columns]
    assert [len(slot) for slot in slots] == [0] * 5
    assert set(roots.layers) - {None} == {"holes"}


def test_warnings(roots, stored):
    roots.layers["counts"] = np.rint(stored["x"] ** 2)
    with pytest.warns(UserWarning, match="raw counts"):
        dbx.pp.magic(roots, layer="counts")
    roots.layers["scaled"] = stored["x"] - stored["x"].mean(axis=0)
    with pytest.warns(UserWarning, match=r"adata.layers\['scaled'\] has negative values"):
        dbx.pp.magic(roots, layer="scaled")
    roots.X[:8] = roots.X[0]
    with pytest.warns(UserWarning, match="8 of 160 cells have 5 or more duplicates"):
        dbx.pp.magic(roots, n_pca=None)
    assert np.isfinite(roots.layers["magic"]).all()


def test_the_curve(roots):
    dbx.pp.magic(roots, t="auto", n_pca=None)
    ax = dbx.pl.magic_t(roots, show=False)
    steps, errors = ax.lines[0].get_data()
    np.testing.assert_array_equal(errors, roots.uns["magic"]["t_error"])
    assert errors[-1] < 0.001 <= errors[-2]
    assert roots.uns["magic"]["t"] == steps[-1] + 1
    assert f"t = {steps[-1] + 1}" in [text.get_text() for text in ax.texts]
    dbx.pp.magic(roots)
    with pytest.raises(ValueError, match='t="auto"'):
        dbx.pl.magic_t(roots, show=False)
