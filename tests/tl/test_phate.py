"""tl.phate: stored numbers of phate, new cells beside a joint layout, and what cannot be laid out."""

from pathlib import Path
from unittest import mock

import anndata as ad
import numpy as np
import pytest
from matplotlib import pyplot as plt
from scipy.spatial.distance import pdist

import dbx

pytestmark = pytest.mark.filterwarnings("ignore:Step .* reads")

STORED = np.load(Path(__file__).parents[1] / "reference" / "phate.npz")


def of_places(x) -> ad.AnnData:
    adata = ad.AnnData(np.zeros((len(x), 1), np.float32))
    adata.obsm["X_rep"] = np.asarray(x, np.float32)
    return adata


def simulated() -> ad.AnnData:
    """Counts; no cell is without any."""
    adata = dbx.datasets.simulate(150, 200, 3, 1, seed=0)
    assert adata.X.sum(axis=1).min() > 0
    return adata


@pytest.fixture(scope="module")
def logged():
    adata = simulated()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    return adata


@pytest.fixture(scope="module")
def laid_out():
    adata = of_places(STORED["x"])
    dbx.tl.phate(adata, use_rep="X_rep")
    return adata


def test_numbers_are_phates(laid_out):
    found = laid_out.uns["phate"]
    assert (found["t"], found["params"]["n_landmark"]) == (23, 1500)
    np.testing.assert_allclose(found["entropy"], STORED["entropy"], atol=1e-6)  # of coordinates in single precision
    assert found["stress"] < STORED["stress"]
    assert np.corrcoef(pdist(laid_out.obsm["X_phate"]), pdist(STORED["embedding"]))[0, 1] > 0.9999


@pytest.mark.arithmetic
def test_a_gpu_gives_the_same_bits(laid_out):
    """Compiled code left the two directions of an edge different there, which was then refused."""
    adata = of_places(STORED["x"])
    with mock.patch("jax.default_backend", return_value="gpu"):
        dbx.tl.phate(adata, use_rep="X_rep")
    np.testing.assert_array_equal(adata.obsm["X_phate"], laid_out.obsm["X_phate"])


@pytest.mark.parametrize("n_landmark", [2000, 300])
@pytest.mark.filterwarnings("ignore:Step .* takes adata.obsm")
def test_new_cells_stand_where_a_joint_layout_has_them(laid_out, n_landmark):
    half = np.random.default_rng(0).random(1500) < 0.5
    known, new = of_places(STORED["x"][half]), of_places(STORED["x"][~half])
    dbx.tl.phate(known, use_rep="X_rep", n_landmark=n_landmark)
    dbx.rerun(new, reference=known)
    apart = pdist(np.concatenate([known.obsm["X_phate"], new.obsm["X_phate"]]))
    joint = laid_out.obsm["X_phate"]
    assert np.corrcoef(apart, pdist(np.concatenate([joint[half], joint[~half]])))[0, 1] > 0.98
    again = known.copy()
    dbx.rerun(again)
    np.testing.assert_array_equal(again.obsm["X_phate"], known.obsm["X_phate"])


def test_components_of_the_genes_map_new_cells(logged):
    counts = simulated()
    adata, key = counts[:120].copy(), {"key_added": "layout"}
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.tl.phate(adata, n_pca=10, n_landmark=60, mds="classic", **key)
    assert adata.obsm["layout_components"].shape == (120, 10)
    new = counts[120:].copy()
    dbx.rerun(new, reference=adata)
    reach = np.ptp(adata.obsm["layout"], axis=0)
    assert (np.abs(new.obsm["layout"] - adata.obsm["layout"].mean(axis=0)) <= reach).all()
    assert len(np.unique(new.obsm["layout"], axis=0)) > 20
    assert "X_phate" not in adata.obsm


def test_names_of_scanpy_external(logged):
    mine, other = (
        dbx.tl.phate(logged, copy=True, t=3, **names) for names in ({"knn": 4, "decay": 15}, {"k": 4, "a": 15})
    )
    np.testing.assert_array_equal(mine.obsm["X_phate"], other.obsm["X_phate"])
    assert not np.allclose(mine.obsm["X_phate"], dbx.tl.phate(logged, copy=True, t=3).obsm["X_phate"])
    with pytest.raises(ValueError, match="knn=4 and k=6 are two names of one setting"):
        dbx.tl.phate(logged, knn=4, k=6)


def test_components_of_the_kernel_are_laid_out_apart(rng):
    adata = of_places(np.concatenate([rng.normal(100 * i, 1, (n, 4)) for i, n in enumerate((60, 40))]))
    with pytest.warns(dbx.DbxWarning, match="2 components of 60, 40 cells, between which no walk passes"):
        dbx.tl.phate(adata, use_rep="X_rep", t=4)
    z = adata.obsm["X_phate"]
    between = np.linalg.norm(z[:60].mean(axis=0) - z[60:].mean(axis=0))
    assert between > 2 * max(pdist(part - part.mean(axis=0)).mean() / 2 for part in (z[:60], z[60:]))


def test_duplicates_are_counted(rng):
    x = rng.normal(size=(80, 3))
    x[:8] = x[0]
    adata = of_places(x)
    with pytest.warns(dbx.DbxWarning) as said:
        dbx.tl.phate(adata, use_rep="X_rep", knn=5, t=3)
    assert any("8 of 80 cells have 5 or more duplicates" in str(warning.message) for warning in said)
    assert np.isfinite(adata.obsm["X_phate"]).all()
    np.testing.assert_allclose(adata.obsm["X_phate"][1:8], adata.obsm["X_phate"][[0] * 7], atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"t": 0}, "t must be at least 1"),
        ({"t": "aut"}, 't must be a number or "auto"'),
        ({"knn": 150}, "knn=150 neighbours are not possible with 150 cells"),
        ({"gamma": 2}, "gamma must be from -1"),
        ({"mds_solver": "sgd"}, "mds_solver must be 'smacof'"),
        ({"mds": "other"}, "mds must be one of"),
        ({"n_pca": 0}, "n_pca must be at least 1"),
        ({"n_landmark": 1}, "n_landmark must be at least 3"),
        ({"knn_dist": "none"}, "metric 'none' is not available"),
        ({"use_rep": "X_none"}, "use_rep='X_none' is not in adata.obsm"),
        ({"n_components": 150, "t": 2}, "n_components=150 dimensions need more than 150 cells"),
    ],
)
def test_what_cannot_be_leaves_the_data_as_they_were(logged, settings, words):
    adata = logged.copy()
    with pytest.raises((ValueError, KeyError), match=words):
        dbx.tl.phate(adata, **settings)
    assert not list(adata.obsm)
    assert not list(adata.obsp)
    assert list(adata.obs) == list(logged.obs)
    assert list(adata.uns) == list(logged.uns)
    assert len(dbx.steps(adata)) == len(dbx.steps(logged))


def test_counts_and_too_many_landmarks_are_said(logged):
    counts = simulated()
    with pytest.warns(dbx.DbxWarning, match="The values in adata.X look like raw counts"):
        dbx.tl.phate(counts, t=2)
    with pytest.warns(dbx.DbxWarning, match="n_landmark=151 is more than the 150 cells"):
        found = dbx.tl.phate(logged, n_landmark=151, t=2, copy=True)
    assert "phate_landmark" not in found.obsm


def test_the_plot_shows_the_curve_and_the_number_of_steps(laid_out, tmp_path):
    ax = dbx.pl.phate_entropy(laid_out, show=False)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), laid_out.uns["phate"]["entropy"])
    assert ax.lines[1].get_xdata()[0] == ax.lines[2].get_xdata()[0] == 23
    assert ax.get_title() == "knee of the entropy"
    dbx.pl.phate_entropy(laid_out, title="", show=False, save=str(tmp_path / "entropy.png"))
    assert (tmp_path / "entropy.png").stat().st_size > 5000
    plt.close("all")
    with pytest.raises(KeyError, match=r"dbx\.tl\.phate"):
        dbx.pl.phate_entropy(of_places(np.zeros((3, 2))))


@pytest.mark.filterwarnings("ignore:60 of 60 cells have", "ignore:The values in")
@pytest.mark.parametrize("n_landmark", [None, 20])
def test_identical_cells_cannot_be_laid_out(n_landmark):
    adata = ad.AnnData(np.ones((60, 10), np.float32))
    with pytest.raises(ValueError, match="All cells are the same to the walk"):
        dbx.tl.phate(adata, n_landmark=n_landmark)
    assert not list(adata.obsm)
