"""What was changed outside dbx stays part of the history: the steps before it are kept, whatever runs after it."""

import numpy as np
import pytest
import scanpy as sc

import dbx
from dbx.program.record.registry import load

pytestmark = pytest.mark.filterwarnings("ignore:zero-centering", "ignore:Step .* was changed outside dbx")


@pytest.fixture
def logged(counts):
    adata = counts.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    return adata


def halve(adata, slot="X"):
    if slot == "X":
        adata.X = adata.X * 0.5
    else:
        adata.obsm[slot] = adata.obsm[slot] * 0.5


def regress(adata):
    adata.obs["n"] = np.asarray(adata.X.sum(axis=1)).ravel()
    sc.pp.regress_out(adata, ["n"])


@pytest.mark.parametrize("change", [halve, regress, sc.pp.scale])
@pytest.mark.parametrize("after", [dbx.pp.scale, dbx.pp.log1p])
def test_steps_before_a_change_stay_when_x_is_overwritten_after_it(logged, change, after):
    if change is not halve and after is dbx.pp.log1p:
        pytest.skip("logarithms of negative values are refused")
    change(logged)
    if after is dbx.pp.log1p:
        with pytest.warns(UserWarning, match="log"):
            after(logged)
    else:
        after(logged)
    table = dbx.steps(logged)
    assert list(table.index)[:2] == ["normalize_total", "log1p"]
    assert table["status"].tolist() == ["ok", "ok", "gap"]
    assert "changed after log1p" in table["reads"].iloc[-1]


def test_a_step_after_a_change_of_its_own_output_is_another_step(logged):
    dbx.pp.scale(logged)
    logged.X = np.clip(logged.X, -1, 1)
    dbx.pp.scale(logged)
    table = dbx.steps(logged)
    assert list(table.index) == ["normalize_total", "log1p", "scale", "scale_2"]
    assert table.loc["scale_2", "reads"] == "X (changed after scale)"
    assert table["status"].tolist() == ["ok", "ok", "ok", "gap"]


def test_a_notebook_cell_that_changes_x_and_runs_again_leaves_one_step(logged):
    before = logged.X.copy()
    for _ in range(3):
        logged.X = before * 0.5
        dbx.pp.scale(logged)
    assert list(dbx.steps(logged).index) == ["normalize_total", "log1p", "scale"]


def test_a_start_over_from_other_counts_leaves_no_twins(logged, counts):
    logged.X = counts.X * 2
    dbx.pp.normalize_total(logged)
    with pytest.warns(UserWarning, match="already log-transformed"):  # uns still says so
        dbx.pp.log1p(logged)
    assert list(dbx.steps(logged).index) == ["normalize_total", "log1p"]


def test_an_embedding_changed_and_overwritten_keeps_the_step_that_made_it(analysed):
    halve(analysed, "X_pca")
    dbx.tl.harmony(analysed, "batch", adjusted_basis="X_pca")
    assert "pca" in dbx.steps(analysed).index
    assert any(read.gap == "pca" for step in load(analysed) for read in step.reads.values())


def test_new_cells_stop_at_the_change(logged, counts):
    regress(logged)
    dbx.pp.scale(logged)
    query = counts[:20].copy()
    before = query.X.copy()
    with pytest.raises(
        ValueError,
        match=r"reference\.X, which was changed outside dbx after 'log1p' and before 'scale' read it",
    ):
        dbx.rerun(query, logged, steps=["scale"])
    assert (before != query.X).nnz == 0
