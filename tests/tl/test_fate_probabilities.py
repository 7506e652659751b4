"""Fate probabilities of annotated data: keys, new cells, and wrong uses that leave the data as they are."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from mudata import MuData
from scipy import sparse

import dbx

N_CELLS = 150


def made() -> ad.AnnData:
    """A trunk that splits into two arms, in 3 dimensions of 10 genes, with its time."""
    rng = np.random.default_rng(0)
    t = rng.random(N_CELLS)
    side = rng.choice([-1.0, 1.0], N_CELLS)
    places = np.stack([4 * t, side * np.maximum(t - 0.4, 0) * 5, np.zeros(N_CELLS)], axis=1)
    x = places @ rng.normal(size=(3, 10)) + rng.normal(0, 0.1, (N_CELLS, 10))
    tips = np.where(t > 0.9, np.where(side > 0, "up", "down"), None)
    obs = {"dpt_pseudotime": t, "side": side, "tips": pd.Categorical(tips)}
    data = ad.AnnData(x.astype(np.float32), obs=pd.DataFrame(obs, index=[f"c{i}" for i in range(N_CELLS)]))
    dbx.pp.pca(data, n_comps=3)
    dbx.pp.neighbors(data, n_neighbors=12)
    return data


@pytest.fixture(scope="module")
def _cells():
    return made()


@pytest.fixture
def cells(_cells):
    return _cells.copy()


def cells_of(data, state: str) -> list[str]:
    return list(data.obs_names[data.obs["tips"] == state])


def test_keys_and_what_they_hold(cells):
    dbx.tl.fate_probabilities(cells, "tips")
    fates, states = cells.obsm["lineages_fwd"], cells.obs["term_states_fwd"]
    assert list(states.cat.categories) == ["down", "up"]
    assert (states.dropna() == cells.obs["tips"].dropna()).all()
    late = cells.obs["dpt_pseudotime"].to_numpy() > 0.6
    assert ((fates[late, 1] > 0.5) == (cells.obs["side"].to_numpy()[late] > 0)).all()
    np.testing.assert_allclose(fates.sum(axis=1), 1, atol=1e-6)
    terminal = states.notna().to_numpy()
    assert ((cells.obsm["absorption_times_fwd"] == 0).all(axis=1) == terminal).all()
    assert (cells.obs["term_states_fwd_probs"] == terminal).all()
    np.testing.assert_allclose(cells.obsp["T_fwd"].sum(axis=1), 1, atol=1e-12)
    mean = fates.mean(axis=0)
    rest = np.where(fates > 0, fates * np.log(np.where(fates > 0, fates, 1)), 0).sum(axis=1)
    np.testing.assert_allclose(cells.obs["priming_degree_fwd"], rest - (mean * np.log(mean)).sum(), atol=1e-12)


def test_names_of_cells_are_as_a_column(cells):
    by_name = dbx.tl.fate_probabilities(cells, {s: cells_of(cells, s) for s in ("down", "up")}, copy=True)
    dbx.tl.fate_probabilities(cells, "tips")
    np.testing.assert_array_equal(by_name.obsm["lineages_fwd"], cells.obsm["lineages_fwd"])


def test_terminal_states_are_found(cells):
    """Without names: the tips of both arms, and fates that agree with those of the named ones."""
    named = dbx.tl.fate_probabilities(cells, "tips", scheme="soft", copy=True)
    dbx.tl.fate_probabilities(cells, scheme="soft", n_states=2, n_cells=6)
    states, fates = cells.obs["term_states_fwd"], cells.obsm["lineages_fwd"]
    assert states.value_counts().tolist() == [6, 6]
    assert cells.obs["macrostates_fwd"].value_counts().tolist() == [6, 6]
    assert cells.obsm["macrostates_fwd_memberships"].shape == (N_CELLS, 2)
    assert cells.obs["dpt_pseudotime"][states.notna()].min() > 0.9
    sides = cells.obs.groupby(states, observed=True)["side"]
    assert sorted(sides.mean()) == [-1, 1]
    assert (sides.std() == 0).all()
    order = np.argsort([sides.mean()[state] for state in states.cat.categories])
    assert np.abs(fates[:, order] - named.obsm["lineages_fwd"]).mean() < 0.05
    assert list(dbx.steps(cells).index[-2:]) == ["macrostates", "fate_probabilities"]
    np.testing.assert_allclose(cells.uns["coarse_fwd"].sum(axis=1), 1, atol=1e-12)
    stored = cells.copy()
    dbx.rerun(cells, refit=True)
    np.testing.assert_array_equal(cells.obsm["lineages_fwd"], stored.obsm["lineages_fwd"])


@pytest.mark.parametrize("mod", [None, "rna"])
def test_a_failed_solve_takes_found_states_back(cells, monkeypatch, mod):
    def fails(*args):
        message = "no"
        raise RuntimeError(message)

    monkeypatch.setattr("dbx.ops.diffusion.fates.AbsorbingWalk", fails)
    data = cells if mod is None else MuData({mod: cells})
    keys, own, program = set(cells.obs), set(data.uns), dbx.steps(data)
    with pytest.raises(RuntimeError, match="no"):
        dbx.tl.fate_probabilities(data, n_states=3, mod=mod)
    assert set(cells.obs) == keys
    assert set(data.uns) == own
    assert dbx.steps(data).equals(program)


def test_ends_named_after_an_automatic_run_are_not_a_change_from_outside(cells):
    """The call itself overwrote what an earlier one had found: no warning, and new cells can go through."""
    named = dbx.tl.fate_probabilities(cells, ends := {s: cells_of(cells, s) for s in ("down", "up")}, copy=True)
    dbx.tl.fate_probabilities(cells, n_states=2, n_cells=6, scheme="soft")
    dbx.tl.fate_probabilities(cells, ends)
    assert dbx.steps(cells).loc["fate_probabilities", "status"] == "ok"
    np.testing.assert_array_equal(cells.obsm["lineages_fwd"], named.obsm["lineages_fwd"])
    assert (cells.obs["term_states_fwd"].dropna() == cells.obs["tips"].dropna()).all()
    cells.obs["term_states_fwd"] = cells.obs["term_states_fwd"].cat.set_categories(["up", "down"], rename=True)
    with pytest.warns(dbx.DbxWarning, match="term_states_fwd.*changed outside dbx after 'macrostates'"):
        dbx.tl.fate_probabilities(cells, "term_states_fwd")


def test_a_view_becomes_data_of_its_own(cells):
    view = cells[:, :]
    with pytest.warns(dbx.DbxWarning, match="Received a view") as warned:
        dbx.tl.fate_probabilities(view, {s: cells_of(cells, s) for s in ("down", "up")})
    assert len(warned) == 1
    assert not view.is_view
    assert "lineages_fwd" not in cells.obsm


@pytest.mark.filterwarnings("ignore:Step .* reads")
def test_transitions_of_blocks_of_different_width(cells, monkeypatch):
    links = cells.obsp["connectivities"].tolil()
    links[3, :] = links[:, 3] = 0.1  # a hub in the first block
    cells.obsp["connectivities"] = links.tocsr()
    expected = cells.copy()
    dbx.tl.fate_probabilities(expected, "tips")
    monkeypatch.setattr("dbx.ops.apply.block_rows", lambda n_rows, n_columns: 64)
    dbx.tl.fate_probabilities(cells, "tips")
    assert (cells.obsp["T_fwd"] != expected.obsp["T_fwd"]).nnz == 0
    np.testing.assert_array_equal(cells.obsm["lineages_fwd"], expected.obsm["lineages_fwd"])


def test_own_transitions_are_the_same_walk(cells):
    dbx.tl.fate_probabilities(cells, "tips", kernel="connectivity", key_added="one")
    dbx.tl.fate_probabilities(cells, "tips", kernel="T_one", key_added="two")
    np.testing.assert_allclose(cells.obsm["lineages_two"], cells.obsm["lineages_one"], atol=1e-9)
    assert "T_two" not in cells.obsp


def test_new_cells_follow_their_neighbours(cells):
    """A third of the cells is mapped onto the others, whose own rows stay as they are to the bit."""
    new = np.arange(N_CELLS) % 3 == 0
    raw = ad.AnnData(cells.X.copy(), obs=cells.obs[["side", "dpt_pseudotime"]].copy())
    reference, query = raw[~new].copy(), raw[new].copy()
    reference.obs["tips"] = cells.obs["tips"][~new]
    dbx.pp.pca(reference, n_comps=3)
    dbx.pp.neighbors(reference, n_neighbors=12)
    dbx.tl.fate_probabilities(reference, "tips", kernel="connectivity")
    dbx.rerun(query, reference)
    late = query.obs["dpt_pseudotime"].to_numpy() > 0.6
    fates = query.obsm["lineages_fwd"]
    assert ((fates[late, 1] > 0.5) == (query.obs["side"].to_numpy()[late] > 0)).all()
    np.testing.assert_allclose(fates.sum(axis=1), 1, atol=1e-6)
    assert query.obs["term_states_fwd"].isna().all()
    stored = reference.obsm["lineages_fwd"].copy()
    dbx.rerun(reference)
    np.testing.assert_array_equal(reference.obsm["lineages_fwd"], stored)


def wrong(**changes):
    """Terminal states with one of them changed."""
    return lambda data: {"down": cells_of(data, "down"), "up": cells_of(data, "up"), **changes}


WRONG = {
    "empty": (wrong(up=[]), {}, ValueError, "'up' has no cell"),
    "absent": (wrong(up=["c1", "nobody"]), {}, ValueError, "names cells that are not there: 'nobody'"),
    "mask": (wrong(up=np.arange(N_CELLS) < 3), {}, ValueError, r"'True', 'False'\. Pass names of cells: list\("),
    "overlapping": (lambda data: {"a": ["c1", "c2"], "b": ["c2"]}, {}, ValueError, "'a' and 'b' overlap in 1 cells"),
    "no column": (lambda _: "nothing", {}, KeyError, "nothing"),
    "measured": (lambda _: "dpt_pseudotime", {}, ValueError, "different numbers, most of them of one cell only"),
    "not named": (lambda _: ["c1"], {}, TypeError, "name -> names of cells"),
    "no time": (lambda _: "tips", {"time_key": "no_time"}, KeyError, "no_time"),
    "time in words": (lambda _: "tips", {"time_key": "tips_text"}, ValueError, "Pseudotime must be numbers"),
    "time with NaN": (lambda _: "tips", {"time_key": "broken"}, ValueError, "1 missing values"),
    "no neighbours": (lambda _: "tips", {"neighbors_key": "none"}, KeyError, "none"),
    "no transitions": (
        lambda _: "tips",
        {"kernel": "unknown"},
        KeyError,
        "^kernel must be .* in adata.obsp; got 'unknown'",
    ),
    "no velocity": (lambda _: "tips", {"kernel": "velocity"}, KeyError, "velocity_graph"),
    "weights": (lambda _: "tips", {"kernel": "connectivities"}, ValueError, "do not sum to 1"),
    "negative": (lambda _: "tips", {"kernel": "negative"}, ValueError, "negative weights"),
    "scheme": (lambda _: "tips", {"scheme": "medium"}, ValueError, "scheme must be one of"),
    "nu": (lambda _: "tips", {"nu": 0}, ValueError, "nu must be above 0"),
    "few states": (lambda _: None, {"n_states": 1}, ValueError, "n_states must be at least 2"),
    "many states": (lambda _: None, {"n_states": 500}, ValueError, "n_states=500 are too many for 150 cells"),
    "no cells": (lambda _: None, {"n_cells": 0}, ValueError, "n_cells must be at least 1"),
    "found without time": (lambda _: None, {"time_key": "broken"}, ValueError, "1 missing values"),
    "share": (lambda _: "tips", {"weight_connectivities": 2}, ValueError, "between 0 and 1"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_uses_leave_the_data_as_they_are(cells, name):
    states, options, error, message = WRONG[name]
    cells.obs["broken"] = cells.obs["dpt_pseudotime"].where(np.arange(N_CELLS) != 3)
    cells.obs["tips_text"] = cells.obs["side"].astype(str)
    cells.obsp["negative"] = sparse.csr_matrix(2 * np.eye(N_CELLS) - np.roll(np.eye(N_CELLS), 1, axis=1))
    keys = {part: set(getattr(cells, part)) for part in ("obs", "obsm", "obsp", "uns")}
    program = dbx.steps(cells)
    with pytest.raises(error, match=message):
        dbx.tl.fate_probabilities(cells, states(cells), **options)
    assert {part: set(getattr(cells, part)) for part in keys} == keys
    assert dbx.steps(cells).equals(program)


@pytest.mark.parametrize("order", [["up", "down"], ["down", "up"]])
@pytest.mark.parametrize("as_column", [False, True])
def test_columns_are_in_the_order_of_the_categories(cells, order, as_column):
    """Also where names are not sorted: cells of an end have the probability 1 in its own column."""
    ends = {state: cells_of(cells, state) for state in order}
    cells.obs["mine"] = pd.Categorical(cells.obs["tips"], categories=order)
    dbx.tl.fate_probabilities(cells, "mine" if as_column else ends)
    categories = cells.obs["term_states_fwd"].cat.categories
    assert list(categories) == order
    for column, state in enumerate(categories):
        assert (cells.obsm["lineages_fwd"][cells.obs_names.isin(ends[state]), column] == 1).all()


def test_an_end_of_one_cell_is_warned_of(cells):
    with pytest.warns(dbx.DbxWarning, match="One cell stands for the terminal state 'up': fates towards it"):
        dbx.tl.fate_probabilities(cells, {"down": cells_of(cells, "down"), "up": cells_of(cells, "up")[:1]})


def test_other_components_are_nan(cells):
    """Infinite pseudotime in a component without an end."""
    far = np.arange(N_CELLS) < 20
    x = np.array(cells.X)
    x[far] += 1000
    data = ad.AnnData(x, obs=cells.obs.copy())
    data.obs["dpt_pseudotime"] = np.where(far, np.inf, data.obs["dpt_pseudotime"])
    data.obs["tips"] = data.obs["tips"].where(~far)
    data.obsm["X_pca"] = x
    dbx.pp.neighbors(data, n_neighbors=12, use_rep="X_pca")
    for scheme in ("hard", "soft"):
        with pytest.warns(dbx.DbxWarning, match="20 of 150 cells reach no terminal state"):
            dbx.tl.fate_probabilities(data, "tips", scheme=scheme)
        assert (np.isnan(data.obsm["lineages_fwd"]).all(axis=1) == far).all()
        assert (np.isnan(data.obs["priming_degree_fwd"]) == far).all()
