"""Planted responses to neighbours' ligands are found, none in shuffled tissue, also by a new slice; wrong input."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.spatial import cKDTree

import dbx
from dbx.ops.signalling.links import Moments

N_CELLS, N_PAIRS, N_TARGETS = 600, 3, 8
PAIRS = pd.DataFrame({"ligand": [f"L{i}" for i in range(N_PAIRS)], "receptor": [f"R{i}" for i in range(N_PAIRS)]})
SETTINGS = {"groupby": "group", "resource": PAIRS, "max_epochs": 10}


def tissue(seed: int = 0) -> ad.AnnData:
    """Target i responds to ligand i of the neighbours within 1.2, if i is below the number of pairs."""
    rng = np.random.default_rng(seed)
    xy = rng.uniform(0, 22, (N_CELLS, 2))
    group = (xy[:, 0] > 11).astype(int) ^ (rng.random(N_CELLS) < 0.2)
    ligands, receptors = rng.gamma(1.0, 4.0, (N_CELLS, N_PAIRS)), rng.gamma(4.0, 1.0, (N_CELLS, N_PAIRS))
    near = [[j for j in of if j != i] for i, of in enumerate(cKDTree(xy).query_ball_point(xy, 1.2))]
    means = np.array([ligands[of].mean(axis=0) if of else np.zeros(N_PAIRS) for of in near])
    targets = np.full((N_CELLS, N_TARGETS), 4.0) * np.array([[1.0], [1.6]])[group]
    targets[:, :N_PAIRS] *= 0.5 + 3 * means * receptors / (means * receptors + 12)
    counts = rng.poisson(np.hstack([ligands, receptors, targets]))
    names = [f"{kind}{i}" for kind, n in (("L", N_PAIRS), ("R", N_PAIRS), ("T", N_TARGETS)) for i in range(n)]
    adata = ad.AnnData(np.log1p(counts).astype(np.float32), var=pd.DataFrame(index=names))
    adata.obs["group"] = pd.Categorical(np.array(["a", "b"])[group])
    adata.obsm["spatial"] = xy
    return adata


@pytest.fixture(scope="module")
def found() -> ad.AnnData:
    adata = tissue()
    dbx.tl.communication(adata, **SETTINGS)
    return adata


def test_planted_links_are_first(found):
    links = found.uns["communication"]["links"]
    assert {(f"L{i}", f"T{i}") for i in range(N_PAIRS)} == set(
        zip(links["ligand"][:3], links["target"][:3], strict=True)
    )
    assert (links["padj"][:N_PAIRS] < 0.05).all()
    assert (links["sign"][:N_PAIRS] == 1).all()
    assert (links["gradient"][:N_PAIRS] > 0).all()
    gain = found.uns["communication"]["gain"].set_index("target")["gain"]
    assert (gain[[f"T{i}" for i in range(N_PAIRS)]] > 0.02).all()
    assert gain[[f"T{i}" for i in range(N_PAIRS, N_TARGETS)]].abs().max() < 0.02
    assert (found.uns["communication"]["groups"]["strength"] > 0).all()


def test_the_history_is_that_of_training_and_names_the_epoch_that_is_kept(found):
    history = found.uns["communication"]["history"]
    assert history["squared_error"][-1] < history["squared_error"][0]
    assert history["kept"] == [np.argmin(history["validation_squared_error"]) + 1]


@pytest.mark.filterwarnings("ignore:No communication found")
def test_gain_is_of_blocks_that_were_not_trained_on(monkeypatch):
    shared, explained = [], Moments.explained

    def watched(self, used, *given):
        shared.append(int((used & self.used).sum()))
        return explained(self, used, *given)

    monkeypatch.setattr(Moments, "explained", watched)
    dbx.tl.communication(tissue(), **{**SETTINGS, "max_epochs": 1, "n_perms": 1})
    assert shared == [0]


def test_shuffled_tissue_says_that_nothing_is_found():
    adata = tissue()
    adata.obsm["spatial"] = adata.obsm["spatial"][np.random.default_rng(1).permutation(N_CELLS)]
    with pytest.warns(UserWarning, match="No communication found"):
        dbx.tl.communication(adata, **SETTINGS)
    assert (adata.uns["communication"]["links"]["padj"] > 0.05).all()
    assert adata.uns["communication"]["gain"]["gain"].mean() < 0.005
    assert (adata.uns["communication"]["groups"]["strength"] == 0).all()


def test_what_is_smooth_in_space_for_other_reasons_is_not_called():
    """Each target varies along the tissue as one of the ligands does, and does not respond to neighbours.

    Against senders permuted within groups, without smooth functions of position, all eight are called.
    """
    adata, rng = tissue(), np.random.default_rng(2)
    x, y = adata.obsm["spatial"].T / 4
    waves = np.sin(np.stack([x + 0.8 * y, x + 1, x - 0.8 * y + 2], axis=1))
    ligands, receptors = rng.gamma(3.0, 2.0 * np.exp(waves)), rng.gamma(4.0, 1.0, (N_CELLS, N_PAIRS))
    targets = 5 * np.exp(0.5 * waves[:, np.arange(N_TARGETS) % N_PAIRS])
    counts = rng.poisson(np.hstack([ligands, receptors, targets]))
    adata.X = np.log1p(counts).astype(np.float32)
    with pytest.warns(UserWarning, match="No communication found"):
        dbx.tl.communication(adata, **SETTINGS)
    assert (adata.uns["communication"]["links"]["padj"] > 0.05).all()


def test_a_new_slice_receives_from_its_own_neighbours(found):
    query = tissue(1)
    dbx.rerun(query, found)
    signals = query.obsm["X_communication"]
    ligands, receptors = np.expm1(query.X[:, :N_PAIRS]), np.expm1(query.X[:, N_PAIRS : 2 * N_PAIRS])
    around = ligands[cKDTree(query.obsm["spatial"]).query(query.obsm["spatial"], 6)[1][:, 1:]].mean(axis=1)
    for i in range(N_PAIRS):
        assert np.corrcoef(signals[:, i], np.log1p(around[:, i] * receptors[:, i]))[0, 1] > 0.6
    assert "links" not in query.uns.get("communication", {})
    with pytest.raises(KeyError, match=r"adata.uns\['communication'\]\['links'\] is missing .*dbx.tl.communication"):
        dbx.pl.communication(query, show=False)


@pytest.mark.parametrize(
    ("change", "settings", "error", "message"),
    [
        (lambda a: a.obsm.pop("spatial"), {}, KeyError, "spatial"),
        (lambda a: np.put(a.obsm["spatial"], 5, np.nan), {}, ValueError, "NaN"),
        (lambda a: None, {"radius": 1e-9}, ValueError, "No cell has a neighbour"),
        (
            lambda a: None,
            {"radius": 0.08, "n_perms": 1},
            ValueError,
            "cells with neighbours are too few .* larger radius",
        ),
        (lambda a: None, {"resource": PAIRS.rename(columns={"ligand": "l"})}, ValueError, "ligand"),
        (lambda a: None, {"resource": PAIRS.map(str.lower)}, ValueError, "case"),
        (lambda a: None, {"targets": ["none"]}, ValueError, "targets"),
        (lambda a: None, {"holdout": 1.0}, ValueError, "holdout"),
        (lambda a: None, {"groupby": "cells"}, KeyError, "cells"),
        (lambda a: None, {"n_perms": 0}, ValueError, "n_perms"),
    ],
)
@pytest.mark.filterwarnings("ignore:588 of 600 cells have no neighbour")
def test_wrong_input_changes_nothing(change, settings, error, message):
    adata = tissue()
    change(adata)
    before = set(adata.obs), set(adata.obsm), set(adata.uns)
    with pytest.raises(error, match=message):
        dbx.tl.communication(adata, **{**SETTINGS, **settings})
    assert before == (set(adata.obs), set(adata.obsm), set(adata.uns))


def test_scaled_values_are_refused():
    adata = tissue()
    adata.X = adata.X - adata.X.mean(axis=0)
    with pytest.raises(ValueError, match="has negative values, as scaled values have"):
        dbx.tl.communication(adata, **SETTINGS)
    assert "communication" not in adata.uns


@pytest.mark.filterwarnings("ignore:No communication found")
def test_cells_that_are_there_twice_are_warned_of():
    adata = tissue()
    adata.obsm["spatial"][1] = adata.obsm["spatial"][0]
    with pytest.warns(UserWarning, match="1 cells have the position of another cell"):
        dbx.tl.communication(adata, **{**SETTINGS, "max_epochs": 1, "n_perms": 1})


@pytest.mark.filterwarnings("ignore:No communication found")
def test_cells_far_from_all_others_are_said():
    adata = tissue()
    adata.obsm["spatial"][:2] += [[1e4, 0], [0, 1e4]]
    with pytest.warns(UserWarning, match="2 cells are far from all others: their nearest neighbour is 9.98e"):
        dbx.tl.communication(adata, **{**SETTINGS, "max_epochs": 1, "n_perms": 1})


def test_no_gene_that_may_respond():
    adata = tissue()
    adata.var["highly_variable"] = False
    with pytest.raises(ValueError, match=r"adata\.var\['highly_variable'\] selects no other gene"):
        dbx.tl.communication(adata, **SETTINGS)


def test_raw_counts_are_refused():
    adata = tissue()
    adata.X = np.round(np.expm1(adata.X)).astype(np.float32)
    with pytest.raises(ValueError, match="log1p"):
        dbx.tl.communication(adata, **SETTINGS)
    assert "communication" not in adata.uns


def test_the_plot_shows_the_tables(found):
    from matplotlib import pyplot as plt

    groups, gains = dbx.pl.communication(found, n_targets=4, show=False)
    strengths = found.uns["communication"]["groups"]["strength"].to_numpy().reshape(2, 2)
    np.testing.assert_allclose(groups.images[0].get_array(), strengths)
    expected = found.uns["communication"]["gain"]["gain"].nlargest(4)
    np.testing.assert_allclose([bar.get_width() for bar in gains.patches], expected)
    assert [text.get_text() for text in gains.texts][:3] == [
        f"L{name[1:]}" for name in found.uns["communication"]["gain"].nlargest(3, "gain")["target"]
    ]
    plt.close("all")
