"""Aligned slices: POT's objective, halves of measured counts turned by known angles, gradients, and new slices."""

import anndata as ad
import jax
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx
from dbx.ops.space import align_pair, fused_gromov, partial_overlap, rigid
from dbx.ops.space.exact_transport import Transport
from dbx.ops.space.fused_gromov import Distances, Problem, Run, inner, sums
from dbx.ops.space.slice_costs import divergence
from dbx.ops.values import Codes
from dbx.program.record.registry import load
from dbx.program.slots.slots import SlotError

ANGLE = np.deg2rad(130)
TURN = np.array([[np.cos(ANGLE), -np.sin(ANGLE)], [np.sin(ANGLE), np.cos(ANGLE)]])
MIRROR = np.diag([1.0, -1.0])


def joined(counts, points, names="ab"):
    slices = np.repeat(list(names), [len(x) for x in counts])
    obs = pd.DataFrame({"slice": pd.Categorical(slices)}, index=[f"s{i}" for i in range(len(slices))])
    return ad.AnnData(np.concatenate(counts).astype(np.float32), obs, obsm={"spatial": np.concatenate(points)})


def halves(slices, keep=1.0, turn=TURN, units=1.0, seed=0):
    """A slice whose counts fall to ``a`` or ``b``, of which ``b`` is turned and keeps a part; and the partners of b."""
    rng = np.random.default_rng(seed)
    whole, points = slices["counts0"].astype(int), slices["spatial0"]
    some = rng.binomial(whole, 0.5)
    along = points @ [np.cos(0.5), np.sin(0.5)]
    partner = rng.permutation(np.flatnonzero(along >= np.quantile(along, 1 - keep)))
    turned = points[partner] @ turn.T + [31.0, -17.0]
    return joined([whole - some, some[partner]], [units * points, units * turned]), partner


def objective(plan, cost, first, second):
    near, far = (np.linalg.norm(x[:, None] - x, axis=2) for x in (first, second))
    out, into = plan.sum(axis=1), plan.sum(axis=0)
    everything = out @ near**2 @ out + into @ far**2 @ into - 2 * (plan * (near @ plan @ far)).sum()
    return 0.9 * (plan * cost).sum() + 0.1 * everything


def test_objective_is_pots(slices, monkeypatch):
    monkeypatch.setattr(align_pair, "robust_place", None)  # slices that fit each other are not searched for an overlap
    adata = joined(*([slices[f"{name}{i}"] for i in (0, 1)] for name in ("counts", "spatial")))
    dbx.tl.align_slices(adata, "slice")
    pairs = adata.uns["align_slices"]["pairs"].iloc[0]
    assert pairs["overlap"] == 1  # whole slices, whose outlines differ a little
    assert pairs["objective"] <= slices["fgw"] * (1 + 1e-6)
    assert pairs["marginal_error"] < 1e-12
    plan = dbx.get.align_slices(adata, slice_key="slice")["a", "b"].toarray()
    value = objective(plan, divergence(slices["counts0"], slices["counts1"]), slices["spatial0"], slices["spatial1"])
    np.testing.assert_allclose(value, pairs["objective"], rtol=1e-10)


def test_distances_in_a_representation(slices):
    adata, partner = halves(slices)
    adata.obsm["X_sqrt"] = np.sqrt(adata.X)
    dbx.tl.align_slices(adata, "slice", use_rep="X_sqrt", overlap=1.0)
    np.testing.assert_allclose(adata.uns["align_slices"]["rotation"][1], TURN.T, atol=0.02)
    plan = dbx.get.align_slices(adata, slice_key="slice")["a", "b"].toarray()
    x, y = np.split(adata.obsm["X_sqrt"].astype(float), [-len(partner)])
    cost = np.sqrt(((x[:, None] - y) ** 2).sum(axis=2))
    value = objective(plan, cost, *np.split(adata.obsm["spatial"], [-len(partner)]))
    np.testing.assert_allclose(value, adata.uns["align_slices"]["pairs"]["objective"], rtol=1e-10)


@pytest.mark.parametrize(("keep", "units"), [(1.0, 1.0), (0.6, 1.0), (0.75, 137.0)])
def test_known_turn_and_partners(slices, keep, units):
    adata, partner = halves(slices, keep, units=units)
    dbx.tl.align_slices(adata, "slice")
    found = adata.uns["align_slices"]
    overlap = found["pairs"]["overlap"][0]
    assert overlap == (1 if keep == 1 else pytest.approx(keep, abs=0.02))
    np.testing.assert_allclose(found["rotation"], [np.eye(2), TURN.T], atol=0.02)
    there = adata.obsm["spatial_aligned"][len(adata) - len(partner) :]
    assert np.linalg.norm(there - units * slices["spatial0"][partner], axis=1).max() < 0.2 * units
    plan = dbx.get.align_slices(adata, slice_key="slice")["a", "b"]
    np.testing.assert_allclose(plan.sum(), overlap, rtol=1e-9)
    # with all of both slices the coupling is that of POT, which these few genes leave a little free
    assert (plan.toarray().argmax(axis=0) == partner).mean() > (0.9 if keep == 1 else 0.95)


def test_a_slice_without_one_row_of_spots(rng):
    """Balanced transport puts it half a row off, where most matches by expression still agree."""
    points = 2.0 * np.stack(np.meshgrid(np.arange(8), np.arange(8)), axis=-1).reshape(-1, 2)
    means = 4 * np.exp(np.sin(points @ rng.normal(0, 0.35, (2, 40)) + rng.uniform(0, 6, 40)))
    turned = points[8:] @ TURN.T + [30.0, -4.0]
    adata = joined([rng.poisson(means), rng.poisson(means[8:])], [points, turned])
    dbx.tl.align_slices(adata, "slice")
    assert adata.uns["align_slices"]["pairs"]["overlap"][0] == 56 / 64
    np.testing.assert_allclose(adata.obsm["spatial_aligned"][64:], points[8:], atol=0.1)


def test_spots_in_one_place_are_said(slices):
    adata, _ = halves(slices)
    adata.obsm["spatial"][3] = adata.obsm["spatial"][5]
    with pytest.warns(dbx.DbxWarning, match=r"1 of \d+ spots of slice 'a' have the position of another one"):
        dbx.tl.align_slices(adata, "slice", overlap=1.0, n_init=1)


def test_a_chain_of_slices_has_the_frame_of_the_first(slices):
    whole, points = slices["counts0"].astype(int), slices["spatial0"]
    parts = np.moveaxis(np.random.default_rng(0).multinomial(whole, [1 / 3] * 3), -1, 0)
    turns = [np.eye(2), TURN, TURN @ TURN]
    adata = joined(list(parts), [points @ turn.T + [5.0, 9.0] for turn in turns], "abc")
    dbx.tl.align_slices(adata, "slice", overlap=1.0)
    np.testing.assert_allclose(adata.uns["align_slices"]["rotation"], np.swapaxes(turns, 1, 2), atol=0.02)
    aligned = adata.obsm["spatial_aligned"]
    np.testing.assert_allclose(aligned, np.tile(np.add(points, [5.0, 9.0]), (3, 1)), atol=0.3)
    operator = load(adata)["align_slices"].build()
    codes = Codes(adata.obs["slice"].cat.codes.to_numpy(), tuple("abc"))
    with jax.enable_x64(True):
        together = operator.together(None, adata.obsm["spatial"], codes)["aligned"]
    np.testing.assert_allclose(together, aligned, rtol=1e-10)


def test_large_slices_start_from_some_of_their_spots(slices, monkeypatch):
    monkeypatch.setattr(align_pair, "LARGE", 100)
    monkeypatch.setattr(align_pair, "SKETCH", 90)
    adata, _ = halves(slices)
    dbx.tl.align_slices(adata, "slice", overlap=1.0)
    assert list(adata.uns["align_slices"]["starts"]["start"]) == ["place"]
    np.testing.assert_allclose(adata.uns["align_slices"]["rotation"][1], TURN.T, atol=0.02)


@pytest.mark.parametrize("sizes", [(4, 6), (6, 4)])
def test_objective_and_slope_by_definition(rng, sizes):
    """Of a plan that leaves out a source and a target; distances of large slices, which are not kept, are the same."""
    points = [rng.normal(size=(size, 2)) for size in sizes]
    plan, cost = rng.uniform(size=sizes) * (rng.uniform(size=sizes) < 0.5), rng.normal(size=sizes)
    plan[0], plan[:, 1] = 0, 0
    near, far = (np.linalg.norm(x[:, None] - x, axis=2) for x in points)
    squares = (near[:, None, :, None] - far[None, :, None, :]) ** 2
    value = 0.7 * (cost * plan).sum() + 0.3 * np.einsum("ijkl,ij,kl", squares, plan, plan)
    slope = 0.7 * cost + 0.6 * np.einsum("ijkl,kl->ij", squares, plan)
    problem, found = Problem(cost, *points, 0.3), sparse.csr_matrix(plan)
    for held in (5000, 0):
        problem.source, problem.target = (Distances(x, held) for x in points)
        between = problem.between(found)
        np.testing.assert_allclose(problem.value(found, between), value, rtol=1e-12)
        np.testing.assert_allclose(problem.slope(plan.sum(axis=1), plan.sum(axis=0), between), slope, rtol=1e-12)
        weights = rng.normal(size=sizes[0])
        np.testing.assert_allclose(problem.source.times(weights), near @ weights, rtol=1e-12)


def test_line_search_ends_where_the_objective_is_least(rng):
    """For steps that raise it again before their end, and for one that does not."""
    problem = Problem(rng.normal(size=(5, 6)), rng.normal(size=(5, 2)), rng.normal(size=(6, 2)), 0.8)
    plan = sparse.csr_matrix(np.full((5, 6), 1 / 30))
    slope = problem.slope(*sums(plan), problem.between(plan))
    shares = []
    for length in (1.0, 0.01):
        step = sparse.csr_matrix(-length * slope / np.abs(slope).max())
        share = fused_gromov._line_search(problem, step, problem.between(step), inner(step, slope))
        values = [
            problem.value(made, problem.between(made)) for made in (plan + t * step for t in np.linspace(0, 1, 1001))
        ]
        assert abs(share - np.argmin(values) / 1000) < 1e-3
        shares.append(share)
    assert 0 < shares[0] < 1
    assert shares[1] == 1


def test_spacing_is_that_of_the_wider_slice(rng):
    points = rng.normal(size=(30, 2))
    alone = partial_overlap.spacing_of(points)
    np.testing.assert_allclose(partial_overlap.spacing_of(points, 3 * points), 3 * alone)
    np.testing.assert_allclose(partial_overlap.spacing_of(3 * points, points), 3 * alone)


def test_a_coupling_fits_where_no_spot_is_far_from_its_partner(rng):
    points = np.stack(np.meshgrid(np.arange(12.0), np.arange(12.0)), axis=-1).reshape(-1, 2)
    costs, here = rng.normal(size=(144, 144)) - 5 * np.eye(144), rigid.identity(2)
    place = partial_overlap.place_of(here, points, points, costs)
    alike = sparse.identity(144, format="csr") / 144
    assert partial_overlap.fits(place, alike, points, points)
    stretched = alike[np.r_[24:144, 0:24]]  # partners two rows away
    assert not partial_overlap.fits(place, stretched, points, points)
    unlike = partial_overlap.place_of(here, points, points, rng.normal(size=(144, 144)))
    assert not partial_overlap.fits(unlike, alike, points, points)
    assert not partial_overlap.fits(place._replace(overlap=0.8), alike, points, points)


def test_mirrored_only_where_allowed(slices):
    adata, partner = halves(slices, turn=TURN @ MIRROR)
    dbx.tl.align_slices(adata, "slice", overlap=1.0, key_added="proper")
    assert (np.linalg.det(adata.uns["proper"]["rotation"]) > 0).all()
    dbx.tl.align_slices(adata, "slice", overlap=1.0, allow_reflection=True)
    aligned = adata.obsm["spatial_aligned"][-len(partner) :]
    np.testing.assert_allclose(aligned, slices["spatial0"][partner], atol=0.02)


def test_a_new_slice_is_aligned_with_the_reference(slices):
    adata, partner = halves(slices)
    dbx.tl.align_slices(adata, "slice", reference="b")
    query, kept = halves(slices, 0.6, turn=TURN @ TURN, seed=1)
    query = query[query.obs["slice"] == "b"].copy()
    query.obs["slice"] = pd.Categorical(["c"] * len(query))
    with pytest.warns(UserWarning, match="'c'"):
        dbx.rerun(query, adata)
    place = np.argsort(partner)[kept]  # row in b, whose frame this is
    there = adata.obsm["spatial"][len(adata) - len(partner) :][place]
    assert np.linalg.norm(query.obsm["spatial_aligned"] - there, axis=1).max() < 0.3


def test_gradients_of_the_least_objective(slices):
    """Those at the fitted coupling are the differences of objectives that are solved for anew."""
    counts, points = ([slices[f"{name}{i}"][:40] for i in (0, 1)] for name in ("counts", "spatial"))
    adata = joined(counts, points)
    dbx.tl.align_slices(adata, "slice", overlap=1.0)
    operator = load(adata)["align_slices"].build()
    rng = np.random.default_rng(0)
    change = rng.normal(size=adata.X.shape) * (adata.X > 0), 0.1 * rng.normal(size=adata.obsm["spatial"].shape)

    def solved(step):
        x, at = np.asarray(adata.X, float) + step * change[0], adata.obsm["spatial"] + step * change[1]
        problem = Problem(divergence(x[:40], x[40:]), at[:40], at[40:], 0.1)
        plan = dbx.get.align_slices(adata, slice_key="slice")["a", "b"]
        masses = np.full(40, 1 / 40)
        run = Run(problem, Transport(masses, masses), -plan.toarray())
        run.go_on(100, 1e-12)
        return run.value

    with jax.enable_x64(True):
        at = np.asarray(adata.X, float), adata.obsm["spatial"]
        np.testing.assert_allclose(operator.objective(*at), adata.uns["align_slices"]["pairs"]["objective"], rtol=1e-9)
        slopes = jax.grad(lambda x, y: operator.objective(x, y).sum(), argnums=(0, 1))(*at)
    expected = (solved(1e-5) - solved(-1e-5)) / 2e-5
    found = sum(float((slope * move).sum()) for slope, move in zip(slopes, change, strict=True))
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_couplings_of_other_spots_are_refused(slices):
    adata, _ = halves(slices)
    dbx.tl.align_slices(adata, "slice", overlap=1.0)
    with pytest.raises(SlotError, match="spots that are not theirs"):
        dbx.get.align_slices(adata[5:], slice_key="slice")
    with pytest.raises(SlotError, match="no couplings of slices in 'dbx'"):
        dbx.get.align_slices(adata, "dbx", slice_key="slice")
    with pytest.raises(SlotError, match="batch"):
        dbx.get.align_slices(adata, slice_key="batch")


def test_wrong_input_in_words(slices, monkeypatch):
    adata, _ = halves(slices)
    cases = [
        ("reference must be one of", {"reference": "z"}, None),
        ("overlap must be", {"overlap": 0.0}, None),
        ("overlap must be", {"overlap": "half"}, None),
        ("slice_weights are of the centre slice", {"slice_weights": {"a": 1.0, "b": 2.0}}, None),
        ("alpha must be between", {"alpha": 2.0}, None),
        ("has not converged", {"max_iterations": 1, "overlap": 1.0, "n_init": 2}, "noise"),
        ("only one", {}, "one slice"),
        ("at least 3 spots", {}, "two spots"),
        ("NaN or infinite", {}, "nan"),
        ("have the position of another", {}, "same position"),
        ("shares no gene", {}, "no shared gene"),
        ("2 or 3 coordinates", {}, "one coordinate"),
        ("counts", {}, "log"),
    ]
    for message, settings, fault in cases:
        data = adata.copy()
        b = (data.obs["slice"] == "b").to_numpy()
        if fault == "noise":
            data.X = np.random.default_rng(0).poisson(1.0, data.shape).astype(np.float32)
        elif fault == "one slice":
            data = data[~b].copy()
        elif fault == "two spots":
            data = data[: len(data) - b.sum() + 2].copy()
        elif fault == "nan":
            data.obsm["spatial"][3] = np.nan
        elif fault == "same position":
            data.obsm["spatial"][b] = 1.0
        elif fault == "no shared gene":
            data.X[np.ix_(b, np.arange(60))] = 0
            data.X[np.ix_(~b, np.arange(60, 120))] = 0
        elif fault == "one coordinate":
            data.obsm["spatial"] = data.obsm["spatial"][:, :1]
        elif fault == "log":
            data.X = np.log1p(data.X)
        with pytest.raises(ValueError, match=message):
            dbx.tl.align_slices(data, "slice", **settings)
        assert "align_slices" not in data.uns
        assert "spatial_aligned" not in data.obsm
    monkeypatch.setattr(partial_overlap, "N_ROUNDS", 1)
    with pytest.raises(ValueError, match="Pass refine=False"):
        dbx.tl.align_slices(halves(slices, 0.6)[0], "slice")
    del adata.obsm["spatial"]
    with pytest.raises(KeyError, match="spatial"):
        dbx.tl.align_slices(adata, "slice")
