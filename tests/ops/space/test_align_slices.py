"""Aligned slices: POT's objective, halves of measured counts turned by known angles, gradients, and new slices."""

import anndata as ad
import jax
import numpy as np
import pandas as pd
import pytest

import dbx
from dbx.ops.space.exact_transport import Transport
from dbx.ops.space.fused_gromov import Problem, Run
from dbx.ops.space.slice_costs import divergence
from dbx.program.record.registry import load

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


def test_objective_is_pots(slices):
    adata = joined(*([slices[f"{name}{i}"] for i in (0, 1)] for name in ("counts", "spatial")))
    dbx.tl.align_slices(adata, "slice")
    pairs = adata.uns["align_slices"]["pairs"].iloc[0]
    assert pairs["overlap"] == 1  # whole slices, whose outlines differ a little
    assert pairs["objective"] <= slices["fgw"] * (1 + 1e-6)
    assert pairs["marginal_error"] < 1e-12
    plan = dbx.get.align_slices(adata, slice_key="slice")["a", "b"].toarray()
    near, far = (np.linalg.norm(x[:, None] - x, axis=2) for x in (slices["spatial0"], slices["spatial1"]))
    out, into = plan.sum(axis=1), plan.sum(axis=0)
    everything = out @ near**2 @ out + into @ far**2 @ into - 2 * (plan * (near @ plan @ far)).sum()
    value = 0.9 * (plan * divergence(slices["counts0"], slices["counts1"])).sum() + 0.1 * everything
    np.testing.assert_allclose(value, pairs["objective"], rtol=1e-10)


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


def test_wrong_input_in_words(slices):
    adata, _ = halves(slices)
    cases = [
        ("reference must be one of", {"reference": "z"}, None),
        ("overlap must be", {"overlap": 0.0}, None),
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
    del adata.obsm["spatial"]
    with pytest.raises(KeyError, match="spatial"):
        dbx.tl.align_slices(adata, "slice")
