"""A run in another mode takes with it what only the former mode wrote."""

from contextlib import contextmanager

import pandas as pd
import pytest

import dbx
from dbx.program.record import commit as committing
from dbx.program.record.registry import load

V3 = {"flavor": "seurat_v3", "n_top_genes": 20, "layer": "counts", "span": 0.9}


@pytest.fixture
def cells():
    adata = dbx.datasets.simulate(80, 60, 2, 1, seed=0)
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.highly_variable_genes(adata, **V3)
    return adata


def names(adata):
    return [step.name for step in load(adata)]


def test_columns_of_another_flavour_go_with_its_step(cells):
    other = cells.copy()
    dbx.pp.highly_variable_genes(cells, n_top_genes=20)
    assert {"means", "dispersions", "dispersions_norm"} <= set(cells.var)
    assert not {"variances", "variances_norm", "highly_variable_rank"} & set(cells.var)
    assert names(cells) == ["normalize_total", "log1p", "highly_variable_genes"]
    assert "variances_norm" in other.var


def test_the_original_of_a_view_keeps_its_columns(cells):
    part = cells[:60]
    with pytest.warns(dbx.DbxWarning, match="view"):
        dbx.pp.highly_variable_genes(part, n_top_genes=20)
    assert "variances" not in part.var
    assert "variances" in cells.var


def test_what_the_user_changed_stays(cells):
    cells.var["variances"] = 1.0
    dbx.pp.highly_variable_genes(cells, n_top_genes=20)
    assert "variances" in cells.var
    assert "variances_norm" not in cells.var


def test_other_keys_are_other_results(cells):
    dbx.pp.pca(cells, n_comps=5)
    dbx.tl.archetypes(cells, 3, n_init=1, key_added="a")
    dbx.tl.archetypes(cells, 3, n_init=1, key_added="b")
    assert {"X_a", "X_b"} <= set(cells.obsm)
    dbx.tl.archetypes(cells, 3, n_init=1, key_added="a", use_rep="X")
    assert "a" not in cells.varm
    assert "b" in cells.varm


def test_a_failure_leaves_both_as_they_were(cells, monkeypatch):
    before, removed = cells.copy(), committing.removed

    @contextmanager
    def failing(data, left):
        with removed(data, left):
            assert "variances" not in data.var
            msg = "the disk is full"
            raise OSError(msg)
        yield

    monkeypatch.setattr(committing, "removed", failing)
    with pytest.raises(OSError, match="the disk is full"):
        dbx.pp.highly_variable_genes(cells, n_top_genes=20)
    pd.testing.assert_frame_equal(cells.var[before.var.columns], before.var)
    assert set(cells.var) == set(before.var)
    assert names(cells) == names(before)


def test_entries_of_uns_go_one_by_one(cells):
    dbx.pp.pca(cells, n_comps=5)
    dbx.tl.archetypes(cells, "auto", n_init=1)
    before = cells.copy()
    dbx.tl.archetypes(cells, 3, n_init=1)
    assert "elbow" in before.uns["archetypes"]
    assert set(cells.uns["archetypes"]) == set(before.uns["archetypes"]) - {"elbow"}
    assert names(cells) == names(before)


def test_velocities_of_another_mode_leave_no_rates():
    adata = dbx.datasets.simulate(80, 50, 2, 1, seed=0)
    adata.layers["spliced"], adata.layers["unspliced"] = adata.X.copy(), dbx.datasets.simulate(80, 50, 2, 1, seed=1).X
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=5)
    dbx.pp.neighbors(adata)
    dbx.pp.moments(adata)
    dbx.tl.velocity(adata, min_r2=-10)
    assert {"velocity_gamma", "velocity_r2"} <= set(adata.var)
    dbx.tl.velocity(adata, mode="local", min_r2=-10, vkey="other")
    assert "variance_velocity" in adata.layers
    dbx.tl.velocity(adata, mode="local", min_r2=-10)
    assert not {"velocity_gamma", "velocity_r2"} & set(adata.var)
    assert "variance_velocity" not in adata.layers
