"""``tl.umap``: scanpy's keys and parameters, and pictures as faithful as its on real cells."""

import anndata as ad
import numpy as np
import pytest
from scipy import sparse
from sklearn.manifold import trustworthiness

import dbx
from dbx.program.record.registry import load


@pytest.fixture(scope="module")
def real():
    """499 cells of three lines, two protocols; 10 principal components and their neighbours."""
    adata = dbx.datasets.mixology()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=10)
    dbx.pp.neighbors(adata)
    return adata


@pytest.fixture(scope="module")
def _small():
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.poisson(1.0, (90, 60)).astype(np.float32))
    adata.obsm["X_pca"] = (rng.normal(size=(90, 5)) + 2 * rng.integers(0, 3, (90, 1))).astype(np.float32)
    dbx.pp.neighbors(adata)
    return adata


@pytest.fixture
def small(_small):
    return _small.copy()


def test_as_faithful_as_scanpys_on_real_cells(real):
    """scanpy 1.12.4 with umap-learn 0.5.12 on these neighbours, seeds 0 to 3: 0.9895 to 0.9903, 25 to 32 wide."""
    scores = []
    for seed in (1, 0):
        dbx.tl.umap(real, random_state=seed)
        scores.append(trustworthiness(real.obsm["X_pca"], real.obsm["X_umap"], n_neighbors=15))
        assert 20 < np.ptp(real.obsm["X_umap"]) < 40
    assert np.mean(scores) > 0.9895
    assert real.obsm["X_umap"].shape == (499, 2)
    assert real.obsm["X_umap"].dtype == np.float32
    assert real.uns["umap"].keys() == {"params"}
    assert real.uns["umap"]["params"].keys() == {"a", "b"}
    found = [real.uns["umap"]["params"][name] for name in ("a", "b")]
    np.testing.assert_allclose(found, [0.5830300203414425, 1.3341669924314914], rtol=1e-6)


def layout(adata, **config):
    dbx.tl.umap(adata, **{"maxiter": 15, **config})
    return adata.obsm["X_umap"].copy()


def test_seed_makes_the_same_bits(small):
    first = layout(small)
    np.testing.assert_array_equal(first, layout(small))
    assert "random_state" not in small.uns["umap"]["params"]
    other = layout(small, rng=5)
    assert not np.array_equal(first, other)
    assert small.uns["umap"]["params"]["random_state"] == 5
    np.testing.assert_array_equal(other, layout(small, random_state=5))


@pytest.mark.parametrize(
    "config",
    [
        {"min_dist": 0.01},
        {"spread": 2.0},
        {"alpha": 0.5},
        {"gamma": 3.0},
        {"negative_sample_rate": 15},
        {"maxiter": 30},
        {"a": 1.0, "b": 1.0},
        {"init_pos": "random"},
    ],
    ids=lambda config: next(iter(config)),
)
def test_every_parameter_does_something(small, config):
    assert np.abs(layout(small) - layout(small, **config)).max() > 0.01


def test_parameters_push_where_they_should(small):
    """Stronger or more pushes spread the cells; cells may lie closer with a smaller distance allowed."""

    def extent(**config):  # mean of a few seeds: a single layout is one in thirty times larger with fewer pushes
        return np.mean([np.ptp(layout(small, maxiter=100, random_state=seed, **config)) for seed in range(4)])

    usual = extent()
    assert extent(gamma=4.0) > usual
    assert extent(negative_sample_rate=20) > usual
    wide, tight = layout(small, maxiter=100), layout(small, maxiter=100, min_dist=0.01)
    edges = small.obsp["connectivities"].tocoo()
    near = [np.median(np.linalg.norm(z[edges.row] - z[edges.col], axis=1)) for z in (wide, tight)]
    assert near[1] < near[0]


def test_starts_and_dimensions(small):
    start = np.random.default_rng(0).normal(size=(90, 2))
    small.obsm["start"] = start
    named, given = layout(small, init_pos="start"), layout(small, init_pos=start)
    np.testing.assert_array_equal(named, given)
    assert layout(small, n_components=3).shape == (90, 3)
    with pytest.raises(ValueError, match=r"must have shape \(90, 2\), .*; got \(90, 5\)"):
        layout(small, init_pos="X_pca")
    small.obs["group"] = np.array(["a", "b", "c"])[np.arange(90) % 3]
    small.obs["group"] = small.obs["group"].astype("category")
    with pytest.raises(ValueError, match=r"call dbx.tl.paga\(adata\) and dbx.pl.paga\(adata, plot=False\) first"):
        layout(small, init_pos="paga")
    weights = sparse.csr_matrix(np.array([[0, 1.0, 0], [1, 0, 0], [0, 0, 0]]))
    small.uns["paga"] = {"pos": np.array([[0.0, 0], [1, 0], [50, 50]]), "groups": "group", "connectivities": weights}
    far = layout(small, init_pos="paga", maxiter=0)
    group = small.obs["group"].cat.codes.to_numpy()
    assert far[group == 2].min() > far[group < 2].max()
    assert np.ptp(far[group == 0][:, 0]) < 1


def test_keys(small):
    dbx.pp.neighbors(small, 5, key_added="few")
    copied = dbx.tl.umap(small, maxiter=5, neighbors_key="few", key_added="other", copy=True)
    assert "other" not in small.obsm
    assert copied.obsm["other"].shape == (90, 2)
    assert set(copied.uns["other"]["params"]) == {"a", "b"}


def test_parts_of_a_graph_that_nothing_connects_lie_apart():
    rng = np.random.default_rng(0)
    part = np.repeat(np.arange(6), 25)
    adata = ad.AnnData(np.zeros((150, 1), np.float32))
    adata.obsm["X_pca"] = (rng.normal(size=(150, 4)) + 100 * rng.normal(size=(6, 4))[part]).astype(np.float32)
    dbx.pp.neighbors(adata, 10, use_rep="X_pca")
    dbx.tl.umap(adata, maxiter=100)
    z = adata.obsm["X_umap"]
    means = np.stack([z[part == i].mean(axis=0) for i in range(6)])
    assert (np.linalg.norm(z[:, None] - means, axis=2).argmin(axis=1) == part).all()


def test_a_weighting_that_is_not_umaps_is_said(small, capsys):
    dbx.pp.neighbors(small, method="gauss")
    with dbx.settings.override(verbosity=2):
        layout(small)
    assert "method='gauss'" in capsys.readouterr().err


def test_new_cells_of_real_lines_land_in_their_line(real):
    """A third of the cells left out and mapped by the program of the rest: 15 neighbours in the picture tell."""
    counts = dbx.datasets.mixology()
    counts = counts[counts.obs["demuxlet_cls"] == "SNG"].copy()
    held_out = np.random.default_rng(0).random(counts.n_obs) < 1 / 3
    reference, query = counts[~held_out].copy(), counts[held_out].copy()
    dbx.pp.normalize_total(reference)
    dbx.pp.log1p(reference)
    dbx.pp.pca(reference, n_comps=10)
    dbx.pp.neighbors(reference)
    dbx.tl.umap(reference, maxiter=200)
    kept = reference.obsm["X_umap"].copy()
    dbx.rerun(query, reference)
    np.testing.assert_array_equal(reference.obsm["X_umap"], kept)
    nearest = np.linalg.norm(query.obsm["X_umap"][:, None] - kept, axis=2).argsort(axis=1)[:, :15]
    lines = reference.obs["cell_line"].to_numpy()[nearest]
    same = (lines == query.obs["cell_line"].to_numpy()[:, None]).mean(axis=1)
    assert (same > 0.5).mean() >= 0.99


def test_a_network_maps_new_cells_from_their_own_values(small, monkeypatch, tmp_path):
    monkeypatch.setattr("dbx.ops.layout.parametric_umap.STEPS", 30)
    dbx.tl.umap(small, method="parametric", maxiter=15, n_hidden=8, n_layers=1, max_epochs=4, key_added="X_net")
    step = load(small)["parametric_umap"]
    assert step.reads["x"].slots == ("obsm/X_pca",)
    assert (step.config["n_hidden"], step.config["n_layers"], step.config["max_epochs"]) == (8, 1, 4)
    assert small.uns["X_net"]["history"]["loss"].shape == (4,)
    assert set(small.uns["X_net"]["params"]) == {"a", "b"}
    small.write_h5ad(tmp_path / "a.h5ad")
    query = ad.AnnData(np.zeros((3, 60), np.float32))
    query.obsm["X_pca"] = small.obsm["X_pca"][[5, 50, 80]]
    dbx.rerun(query, reference=ad.read_h5ad(tmp_path / "a.h5ad"), steps=["parametric_umap"])
    np.testing.assert_allclose(query.obsm["X_net"], small.obsm["X_net"][[5, 50, 80]], rtol=1e-5)
    again = small.copy()
    dbx.rerun(again)
    np.testing.assert_array_equal(again.obsm["X_net"], small.obsm["X_net"])
    gradient = dbx.sensitivity(small, "obsm/X_net", "obsm/X_pca", column=0)
    assert gradient["magnitude"].min() > 0


def test_as_many_dimensions_as_the_neighbours_had(small, monkeypatch):
    monkeypatch.setattr("dbx.ops.layout.parametric_umap.STEPS", 30)
    dbx.pp.neighbors(small, n_pcs=3)
    dbx.tl.umap(small, method="parametric", maxiter=15, max_epochs=1)
    assert load(small)["parametric_umap"].config["n_dims"] == 3


WRONG = {
    "start": ({"init_pos": "X_tsne"}, ValueError, "init_pos='X_tsne' is not known.*adata.obsm, which has 'X_pca'"),
    "method": ({"method": "rapids"}, ValueError, "method must be 'umap' or 'parametric'; got 'rapids'"),
    "network": ({"n_hidden": 8}, ValueError, "n_hidden needs method='parametric'"),
    "neighbours": ({"neighbors_key": "few"}, KeyError, r"adata.uns\['few'\] is missing"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_explained_and_change_nothing(small, case):
    call, error, words = WRONG[case]
    with pytest.raises(error, match=words):
        dbx.tl.umap(small, **call)
    assert "X_umap" not in small.obsm
    assert "umap" not in small.uns


def test_without_neighbours_it_says_what_makes_them(small):
    del small.uns["neighbors"]
    with pytest.raises(KeyError, match=r"Make it with dbx.pp.neighbors\(adata\)"):
        dbx.tl.umap(small)


def test_the_settings_listed_are_those_that_were_passed(small):
    layout(small)
    assert dbx.steps(small).loc["umap", "settings"] == "n_epochs=15"
    layout(small, min_dist=0.1)
    assert dbx.steps(small).loc["umap", "settings"] == "min_dist=0.1, n_epochs=15"
    layout(small, a=1.2, b=0.9)
    assert dbx.steps(small).loc["umap", "settings"] == "a=1.2, b=0.9, n_epochs=15"
    wanted = layout(small, min_dist=0.1)
    layout(small)
    dbx.rerun(small, config={"umap": {"min_dist": 0.1}})
    np.testing.assert_array_equal(small.obsm["X_umap"], wanted)
