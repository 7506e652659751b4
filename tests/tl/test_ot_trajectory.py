"""Couplings of annotated data: what is written, new cells, and wrong uses that leave the data as they are."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx
from dbx.program import SlotError


def made(n: int = 60) -> ad.AnnData:
    """Cells of three times that drift along two of twenty genes; the right half divides twice as often."""
    rng = np.random.default_rng(0)
    time = np.repeat([0.0, 1.0, 3.0], n)
    side = rng.choice([-1.0, 1.0], 3 * n)
    places = np.column_stack([2 * time, side * (1 + time), rng.normal(size=3 * n)])
    x = places @ rng.normal(size=(3, 20)) + rng.normal(0, 0.3, (3 * n, 20))
    obs = pd.DataFrame({"day": time, "side": pd.Categorical(np.where(side > 0, "right", "left"))})
    obs.index = [f"c{i}" for i in range(3 * n)]
    obs["growth"] = np.where(side > 0, 2.0, 1.0)
    data = ad.AnnData(x.astype(np.float32), obs=obs)
    dbx.pp.pca(data, n_comps=5, dtype="float64")
    return data


@pytest.fixture(scope="module")
def _cells():
    return made()


@pytest.fixture
def cells(_cells):
    return _cells.copy()


def test_what_is_written(cells):
    dbx.tl.ot_trajectory(cells, "day")
    pairs = cells.uns["ot"]["pairs"]
    assert pairs[["source", "target"]].to_numpy().tolist() == [[0, 1], [1, 3]]
    assert pairs["converged"].all()
    assert (pairs["marginal_error"] <= 1e-6).all()
    params = cells.uns["ot"]["params"]
    assert params == {"time_key": "day", "use_rep": "X_pca", "potentials": "ot_potentials", "growth": "ot_growth"}
    potentials = cells.obsm["ot_potentials"]
    assert np.isnan(potentials[:60, 1]).all()
    assert np.isnan(potentials[120:, 0]).all()
    assert np.isfinite(potentials[60:120]).all()
    assert cells.obs["ot_growth"].isna().to_numpy().tolist() == [False] * 120 + [True] * 60
    couplings = dbx.get.ot(cells)
    side = (cells.obs["side"] == "right").to_numpy(float)
    for (first, second), coupling in couplings.items():
        matrix = coupling.matrix()
        assert matrix.shape == (60, 60)
        # masses differ from equal ones as the penalties allow, and cells stay on their side
        np.testing.assert_allclose(matrix.sum(axis=0) * 60, 1, atol=0.02)
        stays = matrix[side[coupling.source] == 1][:, side[coupling.target] == 1].sum()
        assert stays > 0.9 * matrix[side[coupling.source] == 1].sum()
        growth = cells.obs["ot_growth"].to_numpy()[coupling.source] ** (second - first)
        np.testing.assert_allclose(coupling.growth, growth, rtol=1e-9)
        np.testing.assert_allclose(growth, matrix.sum(axis=1) / matrix.sum() * 60, rtol=1e-9)
    assert repr(dbx.get.ot(cells)[0.0, 1.0]).startswith("<coupling of 60 with 60 cells, converged, marginal error ")


def test_given_growth_is_kept_and_not_refined_away(cells):
    dbx.tl.ot_trajectory(cells, "day", growth_key="growth")
    found, given = cells.obs["ot_growth"].to_numpy()[:120], cells.obs["growth"].to_numpy()[:120]
    assert np.corrcoef(np.log(found), np.log(given))[0, 1] > 0.95
    coupling = dbx.get.ot(cells)[1.0, 3.0]
    # descendants of two units of time, g^2; as many in all as were given
    np.testing.assert_allclose(coupling.growth.sum(), (given[60:] ** 2).sum(), rtol=1e-9)
    refined = coupling.matrix().sum(axis=1)
    assert (
        np.corrcoef(np.log(refined), np.log(given[60:]))[0, 1]
        < np.corrcoef(np.log(found[60:]), np.log(given[60:]))[0, 1]
    )
    assert cells.uns["ot"]["pairs"]["growth_weight"].round(6).isin([1, 2, 5, 10]).all()


def test_growth_of_marker_genes(cells):
    genes = dbx.datasets.simulate(180, 200, 3, 1, seed=0)
    dbx.pp.log1p(genes)
    cells = ad.AnnData(genes.X, obs=cells.obs, obsm={"X_pca": cells.obsm["X_pca"]})
    markers = {"proliferation": list(cells.var_names[:4]), "apoptosis": "death"}
    cells.obs["death"] = np.linspace(-0.2, 0.4, 180)
    before = cells.copy()
    for wrong in ({"proliferation": ["1"]}, ["1"]):
        with pytest.raises(ValueError, match='must be {"proliferation": ..., "apoptosis": ...}'):
            dbx.tl.ot_trajectory(cells, "day", growth_genes=wrong)
    with pytest.raises(ValueError, match="pass one of them"):
        dbx.tl.ot_trajectory(cells, "day", growth_genes=markers, growth_key="growth")
    with pytest.raises(ValueError, match=r"in their case\. Pass lists of genes"):
        dbx.tl.ot_trajectory(cells, "day", growth_genes="human")
    ids = cells.copy()
    ids.var_names = [f"ENSG{i:011d}.2" for i in range(ids.n_vars)]
    with pytest.raises(ValueError, match="These are Ensembl identifiers: make symbols the names"):
        dbx.tl.ot_trajectory(ids, "day", growth_genes="human")
    with pytest.raises(RuntimeError, match="did not converge"):
        dbx.tl.ot_trajectory(cells, "day", growth_genes=markers, max_iterations=1)
    assert list(cells.obs) == list(before.obs)
    assert list(dbx.steps(cells).index) == list(dbx.steps(before).index)
    dbx.tl.ot_trajectory(cells, "day", growth_genes=markers)
    dbx.tl.score_genes(before, markers["proliferation"], score_name="score")
    score, death = before.obs["score"], cells.obs["death"]
    birth = 0.3 + 1.4 / (1 + np.exp(-(score - 0.25) / 0.125))  # gen_logistic of Waddington-OT
    rate = birth - 0.3 - 1.4 / (1 + np.exp(-(death - 0.1) / 0.05))
    np.testing.assert_allclose(cells.obs["ot_prior_growth"], np.exp(rate), rtol=1e-6)
    before.obs["growth"] = cells.obs["ot_prior_growth"]
    dbx.tl.ot_trajectory(before, "day", growth_key="growth")
    np.testing.assert_array_equal(before.obs["ot_growth"], cells.obs["ot_growth"])
    copies = cells[::3].copy()
    copies.obs_names = [f"new{i}" for i in range(len(copies))]
    dbx.rerun(copies, cells)
    np.testing.assert_allclose(copies.obs["ot_prior_growth"], cells.obs["ot_prior_growth"].to_numpy()[::3], rtol=1e-6)


def test_new_cells_get_what_fitted_cells_have(cells):
    dbx.tl.ot_trajectory(cells, "day", growth_key="growth", threshold=1e-9)
    copies = cells[::3].copy()
    for key in ("ot_growth",):
        del copies.obs[key]
    copies.obs_names = [f"new{i}" for i in range(len(copies))]
    stored = cells[::3].obsm["ot_potentials"]
    dbx.rerun(copies, cells)
    np.testing.assert_allclose(copies.obsm["ot_potentials"], stored, atol=1e-6)
    np.testing.assert_allclose(copies.obs["ot_growth"], cells.obs["ot_growth"].to_numpy()[::3], rtol=1e-6)
    copies.obs["day"] = 2.0
    with pytest.raises(ValueError, match="a new time is a new coupling"):
        dbx.rerun(copies, cells)


def test_fates_are_products_of_couplings(cells):
    dbx.tl.ot_trajectory(cells, "day")
    dbx.tl.ot_fates(cells, "side")
    first, second = (c.matrix() / c.matrix().sum(axis=1, keepdims=True) for c in dbx.get.ot(cells).values())
    last = pd.get_dummies(cells.obs["side"]).to_numpy(float)[120:]
    fates = cells.obsm["ot_fate_side"]
    np.testing.assert_array_equal(fates[120:], last)
    np.testing.assert_allclose(fates[60:120], second @ last, rtol=1e-9)
    np.testing.assert_allclose(fates[:60], first @ second @ last, rtol=1e-9)
    copies = cells[:120:3].copy()
    copies.obs_names = [f"new{i}" for i in range(40)]
    del copies.obs["side"]
    dbx.rerun(copies, cells)
    np.testing.assert_allclose(copies.obsm["ot_fate_side"], fates[:120:3], rtol=1e-5)
    del cells.uns["ot"]
    with pytest.raises(SlotError, match="ot_trajectory"):
        dbx.tl.ot_fates(cells, "side")


@pytest.mark.parametrize("settings", [{"epsilon": 0.3}, {"growth_iters": 2}, {"time_pairs": ((0.0, 3.0),)}])
def test_fates_follow_couplings_that_are_fitted_again(cells, settings):
    """Units of distances and columns of potentials are other ones then."""
    expected = cells.copy()
    dbx.tl.ot_trajectory(expected, "day", **settings)
    dbx.tl.ot_fates(expected, "side")
    dbx.tl.ot_trajectory(cells, "day")
    dbx.tl.ot_fates(cells, "side")
    assert not np.array_equal(cells.obsm["ot_fate_side"], expected.obsm["ot_fate_side"], equal_nan=True)
    dbx.rerun(cells, config={"ot_trajectory": settings})
    np.testing.assert_array_equal(cells.obsm["ot_fate_side"], expected.obsm["ot_fate_side"])
    assert (dbx.steps(cells)["status"] == "ok").all()


def test_transitions_between_groups(cells):
    dbx.tl.ot_trajectory(cells, "day")
    matrix = dbx.get.ot(cells)[0.0, 1.0].matrix()
    right = (cells.obs["side"] == "right").to_numpy()
    table = dbx.tl.ot_cell_transition(cells, 0, 1, "side")
    expected = matrix[right[:60]][:, right[60:120]].sum() / matrix[right[:60]].sum()
    np.testing.assert_allclose(table.loc["right", "right"], expected, rtol=1e-9)
    backward = dbx.tl.ot_cell_transition(cells, 0, 1, "side", forward=False)
    np.testing.assert_allclose(backward.sum(axis=0), 1, rtol=1e-12)
    with pytest.raises(KeyError, match="time_pairs"):
        dbx.tl.ot_cell_transition(cells, 0, 3, "side")
    with pytest.raises(TypeError, match="The earlier time must be a number; got '0'"):
        dbx.tl.ot_cell_transition(cells, "0", 1, "side")


def test_ancestors_are_products_of_columns(cells):
    dbx.tl.ot_trajectory(cells, "day")
    right = (cells.obs["side"] == "right").to_numpy()
    late = cells.obs["day"] == 3
    shares = dbx.tl.ot_ancestors(cells, late & right)
    first, second = (c.matrix() / c.matrix().sum(axis=0) for c in dbx.get.ot(cells).values())
    own = right[120:] / right[120:].sum()
    np.testing.assert_allclose(shares, [*(first @ second @ own), *(second @ own), *own], rtol=1e-9)
    assert shares[60:120][right[60:120]].sum() > 0.95  # cells stay on their side
    by_name = dbx.tl.ot_ancestors(cells, list(cells.obs_names[60:63]))
    np.testing.assert_allclose(by_name[:60], first[:, :3].mean(axis=1), rtol=1e-9)
    assert by_name[120:].isna().all()
    for wrong, error, message in [
        (right, ValueError, "of one time"),
        (late & False, ValueError, "at least one cell"),
        (right[:5], ValueError, "each of the 180 cells; got 5"),
        (["c1", "no"], KeyError, "no cells 'no'"),
        (["c1"], ValueError, "No coupling leads to time 0"),
    ]:
        with pytest.raises(error, match=message):
            dbx.tl.ot_ancestors(cells, wrong)


def test_interpolated_points_are_between_pairs_of_the_coupling(cells):
    dbx.tl.ot_trajectory(cells, "day", time_pairs=[(0, 3)])
    before = set(cells.obs), set(cells.obsm), set(cells.uns)
    found = dbx.tl.ot_interpolate(cells, 0, 1, 3, n_points=4000)
    assert before == (set(cells.obs), set(cells.obsm), set(cells.uns))
    coupling = dbx.get.ot(cells)[0.0, 3.0]
    matrix = coupling.matrix() / coupling.matrix().sum()
    pairs = pd.crosstab(found.obs["interpolated_from"], found.obs["interpolated_to"]) / 4000
    pairs = pairs.reindex(index=cells.obs_names[:60], columns=cells.obs_names[120:], fill_value=0).to_numpy()
    assert (np.abs(pairs - matrix) <= 5 * np.sqrt(matrix / 4000) + 5 / 4000).all()
    ends = (cells[list(found.obs[f"interpolated_{end}"])].obsm["X_pca"] for end in ("from", "to"))
    np.testing.assert_allclose(found.obsm["X_pca"], np.average(list(ends), axis=0, weights=[2, 1]), rtol=1e-5)
    # never taken for cells: no genes, no name and no time of a cell
    assert found.n_vars == 0
    assert "day" not in found.obs
    assert not set(found.obs_names) & set(cells.obs_names)
    again = dbx.tl.ot_interpolate(cells, 0, 1, 3, n_points=4000)
    np.testing.assert_array_equal(again.obsm["X_pca"], found.obsm["X_pca"])
    with pytest.raises(ValueError, match="must be between"):
        dbx.tl.ot_interpolate(cells, 0, 4, 3)
    with pytest.raises(KeyError, match="time_pairs"):
        dbx.tl.ot_interpolate(cells, 0, 0.5, 1)


def test_a_time_between_is_closest_to_the_coupling(cells):
    """Cells drift at a constant speed, away from the middle on two sides: only coupled cells stay on theirs."""
    dbx.tl.ot_trajectory(cells, "day", time_pairs=[(0, 3)])
    found = dbx.get.ot_validation(cells, 0, 1, 3)["energy_distance"]
    assert found.idxmin() == "coupling"
    with pytest.raises(ValueError, match="must be between"):
        dbx.get.ot_validation(cells, 0, 2, 3)


def test_low_rank_couplings(cells):
    dbx.tl.ot_trajectory(cells, "day", growth_key="growth", rank=8, key_added="low")
    dbx.tl.ot_trajectory(cells, "day", growth_key="growth", growth_iters=1)
    coupling, full = (dbx.get.ot(cells, key)[1.0, 3.0] for key in ("low", "ot"))
    matrix, values = coupling.matrix(), cells.obsm["X_pca"][120:, :2]
    assert 1 < np.linalg.matrix_rank(matrix) <= 8  # clusters that no cell needs are alike
    np.testing.assert_allclose(coupling.pull(values), matrix @ values, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(coupling.push(values), matrix.T @ values, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(matrix.sum(axis=0) * 60, 1, atol=0.02)
    mean = [found.pull(values) / found.pull(np.ones((60, 1))) for found in (coupling, full)]
    assert np.linalg.norm(mean[0] - mean[1]) < 0.3 * np.linalg.norm(mean[1] - values.mean(axis=0))
    growth = cells.obs["low_growth"].to_numpy()[60:120] ** 2
    expected = matrix.sum(axis=1) / matrix.sum() * (cells.obs["growth"][60:120] ** 2).sum()
    np.testing.assert_allclose(growth, expected, rtol=1e-5)  # sums of columns are right to 1e-6
    np.testing.assert_allclose(coupling.growth, growth, rtol=1e-9)
    assert cells.obs["low_growth"].isna().to_numpy().tolist() == [False] * 120 + [True] * 60
    copies = cells[::3].copy()
    copies.obs_names = [f"new{i}" for i in range(len(copies))]
    dbx.rerun(copies, cells)
    np.testing.assert_allclose(copies.obsm["low_factors"], cells.obsm["low_factors"][::3], rtol=1e-9)
    dbx.tl.ot_trajectory(cells, "day", rank="auto", max_cells=59, key_added="auto", threshold=1e-3)
    assert cells.uns["auto"]["pairs"]["rank"].tolist() == [60, 60]  # not 100, of which there are fewer cells
    dbx.tl.ot_trajectory(cells, "day", rank="auto")
    assert "rank" not in cells.uns["ot"]["pairs"]
    with pytest.raises(ValueError, match="not chained"):
        dbx.tl.ot_fates(cells, "side", key="low")


def test_times_by_name(cells):
    dbx.tl.ot_trajectory(cells, "day", time_pairs=[(0, 3)])
    expected = dbx.get.ot(cells)[0.0, 3.0].matrix()
    cells.obs["day"] = pd.Categorical(cells.obs["day"].map({0.0: "0", 1.0: "10", 3.0: "3"}))
    dbx.tl.ot_trajectory(cells, "day", time_pairs=[(0, 3)])
    assert list(dbx.get.ot(cells)) == [(0.0, 3.0)]
    np.testing.assert_array_equal(dbx.get.ot(cells)[0.0, 3.0].matrix(), expected)


def one_time(cells):
    cells.obs["day"] = 1.0


def one_cell(cells):
    cells.obs.iloc[0, 0] = -1.0


def words(cells):
    cells.obs["day"] = "early"


def missing(cells):
    cells.obsm["X_pca"][4, 0] = np.nan


def negative(cells):
    cells.obs.loc["c3", "growth"] = -1.0


def fine(cells):
    pass


WRONG = [
    (one_time, {}, ValueError, "of one time"),
    (one_cell, {}, ValueError, "only 1 cell"),
    (words, {}, ValueError, "Times must be numbers"),
    (missing, {}, ValueError, "NaN|not finite"),
    (negative, {"growth_key": "growth"}, ValueError, "above 0"),
    (fine, {"epsilon": 0.0}, ValueError, "epsilon must be above 0"),
    (fine, {"tau_a": 1.5}, ValueError, "tau_a must be"),
    (fine, {"tau_b": "strict"}, TypeError, "tau_b must be a number"),
    (fine, {"time_pairs": [(1, 0)]}, ValueError, "earlier one first"),
    (fine, {"time_pairs": [(0, 2)]}, ValueError, "no cell"),
    (fine, {"time_pairs": (0, 1)}, ValueError, "must be pairs"),
    (fine, {"time_pairs": []}, ValueError, "must be pairs"),
    (fine, {"time_pairs": [(0, 1), (0.0, 1.0)]}, ValueError, "a pair twice"),
    (fine, {"max_iterations": 2}, RuntimeError, "did not converge"),
    (fine, {"max_iterations": 2, "rank": 4}, RuntimeError, "further ones would still move .* of the mass"),
    (fine, {"rank": 61}, ValueError, "at most the number of cells"),
    (fine, {"rank": 4, "growth_iters": 2}, ValueError, "of full couplings"),
    (fine, {"rank": 0}, ValueError, "rank must be at least 1"),
    (fine, {"rank": "low"}, ValueError, 'rank must be a number or "auto"'),
]


@pytest.mark.parametrize(("spoil", "options", "error", "message"), WRONG)
def test_wrong_uses_are_refused_and_nothing_is_written(cells, spoil, options, error, message):
    spoil(cells)
    before = cells.copy()
    with pytest.raises(error, match=message):
        dbx.tl.ot_trajectory(cells, "day", **options)
    assert "ot" not in cells.uns
    assert set(cells.obsm) == set(before.obsm)
    assert set(cells.obs) == set(before.obs)


def test_cells_in_one_place(cells):
    alike = ad.AnnData(obs=cells.obs[["day"]].copy(), obsm={"z": np.full((len(cells), 3), 3.3)})
    wanted = "median squared distance between cells of times 0 and 1 is 0: most have the same coordinates"
    with pytest.warns(UserWarning, match="no recorded step"), pytest.raises(ValueError, match=wanted):
        dbx.tl.ot_trajectory(alike, "day", use_rep="z")


def test_unconverged_where_it_is_allowed(cells):
    dbx.tl.ot_trajectory(cells, "day", max_iterations=2, allow_unconverged=True)
    assert not dbx.get.ot(cells)[0.0, 1.0].converged


def test_a_large_coupling_is_not_made_whole(cells, monkeypatch):
    dbx.tl.ot_trajectory(cells, "day")
    monkeypatch.setattr("dbx.ops.transport.coupling.LARGEST", 50)
    with pytest.raises(MemoryError, match="push"):
        dbx.get.ot(cells)[0.0, 1.0].matrix()
    with pytest.raises(SlotError, match="take it of all cells"):
        dbx.get.ot(cells[:100])


@pytest.mark.parametrize("kind", [float, "category"])
def test_a_part_of_the_fitted_cells_keeps_what_it_has(cells, kind):
    """Cells are recognised by their names and values, of which times are a column."""
    cells.obs["day"] = cells.obs["day"].astype(kind)
    dbx.tl.ot_trajectory(cells, "day")
    dbx.tl.ot_fates(cells, "side")
    part = cells[::3].copy()
    later = cells[::3].copy()
    later.obs["day"] = later.obs["day"].cat.rename_categories({0.0: 1.0, 1.0: 0.0}) if kind == "category" else 1.0
    for copies in (part, later):
        dbx.rerun(copies, cells)
    for key in ("ot_potentials", "ot_fate_side"):
        np.testing.assert_array_equal(part.obsm[key], cells.obsm[key][::3])
    first = part.obs["day"].astype(float) == 0  # which are of the second time in the others
    assert np.isnan(part.obsm["ot_potentials"][first, 1]).all()
    assert np.isfinite(later.obsm["ot_potentials"][first, 1]).all()
