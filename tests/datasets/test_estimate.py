"""Parameters estimated from counts: those that the counts were simulated with, and nothing where there is nothing."""

import inspect

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

from dbx.datasets import estimate, simulate

BASE = {"n_cells": 800, "n_genes": 2500, "library_size": 50_000.0, "library_scale": 0.3, "mean_shape": 0.6}
ONE = {"n_groups": 1, "n_batches": 1, "de_probability": 0.0}
CASES = {
    "plain": ONE | {"dispersion": 0.1, "dispersion_df": 20.0},
    "outliers_and_trend": ONE
    | {"dispersion": 0.05, "dispersion_df": 30.0, "bcv_trend": 0.5}
    | {"outlier_probability": 0.05, "outlier_location": 3.0, "outlier_scale": 0.5},
    "groups_and_batches": {"n_groups": 3, "n_batches": 2, "dispersion": 0.1, "dispersion_df": 20.0}
    | {"de_probability": 0.2, "de_location": 1.0, "de_scale": 0.4, "de_down": 0.3, "batch_scale": 0.3},
    "two_groups": {"n_groups": 2, "n_batches": 1, "dispersion": 0.1, "dispersion_df": 20.0}
    | {"de_probability": 0.2, "de_location": 1.0, "de_scale": 0.4},
    "dropout": ONE | {"dispersion": 0.1, "dispersion_df": 20.0, "dropout_mid": 1.0, "dropout_shape": -1.0},
}


def columns(case):
    found = {"groupby": "group"} if CASES[case]["n_groups"] > 1 else {}
    return found | ({"batch_key": "batch"} if CASES[case]["n_batches"] > 1 else {})


@pytest.mark.parametrize("case", CASES)
def test_round_trip(case):
    """Within a tenth, by 2,500 genes in 800 cells of 50,000 counts; the rate of the means within a fifth."""
    given = BASE | CASES[case]
    adata = simulate(**given, seed=1)
    found = estimate(adata, **columns(case))
    # means are relative: the rate is that with which they sum to the library size
    rate = 0.3 * adata.var["mean"].sum() / found["library_size"]
    assert found["mean_rate"] == pytest.approx(rate, rel=0.2)
    for name, value in given.items():
        assert found[name] == pytest.approx(value, rel=0.1, abs=1e-12), name
    absent = {"bcv_trend", "outlier_probability"} - set(given)
    assert all(found[name] == 0 for name in absent)
    assert ("dropout_mid" in found) == ("dropout_mid" in given)


def test_keywords_are_those_of_simulate():
    adata = simulate(300, 200, 3, 2, seed=2, library_size=3000.0, group_shares=[3, 2, 1])
    found = estimate(adata, groupby="group", batch_key="batch")
    assert set(found) <= set(inspect.signature(simulate).parameters)
    again = simulate(**found)
    assert again.shape == adata.shape
    assert (again.X.data % 1 == 0).all()
    np.testing.assert_allclose(found["group_shares"], adata.obs["group"].value_counts(normalize=True, sort=False))
    assert again.X.sum() == pytest.approx(adata.X.sum(), rel=0.1)
    for kind in (sparse.csc_matrix(adata.X), adata.X.toarray(), adata.X.toarray().astype(int)):
        other = ad.AnnData(np.zeros(adata.shape, np.float32), obs=adata.obs, layers={"counts": kind})
        same = estimate(other, groupby="group", batch_key="batch", layer="counts")
        assert same["dispersion"] == pytest.approx(found["dispersion"], rel=1e-6)


def test_poisson_counts_have_no_dispersion():
    found = estimate(simulate(400, 400, 1, 1, seed=3, library_size=8000.0, dispersion=0.0, de_probability=0.0))
    assert found["dispersion"] < 0.005
    assert found["bcv_trend"] < 0.05
    assert "dropout_mid" not in found


def test_bad_input_is_refused_and_nothing_is_written():
    adata = simulate(60, 40, 2, 1, seed=1)
    before = set(adata.uns), set(adata.obs), set(adata.var)
    logs = adata.copy()
    logs.X = logs.X.log1p()
    with pytest.raises(ValueError, match="estimate needs raw counts"):
        estimate(logs)
    with pytest.raises(KeyError, match="no column 'cell_type'"):
        estimate(adata, groupby="cell_type")
    missing = adata.copy()
    missing.obs["group"] = missing.obs["group"].where(np.arange(60) > 3)
    with pytest.raises(ValueError, match=r"obs\['group'\] has 4 missing values"):
        estimate(missing, groupby="group")
    with pytest.raises(ValueError, match="At least ten cells"):
        estimate(adata[:5].copy())
    assert (set(adata.uns), set(adata.obs), set(adata.var)) == before
