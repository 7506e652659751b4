"""What real notebooks do: run things twice, overwrite slots, change data behind dbx's back, interrupt."""

import warnings

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import dbx
from dbx.ops.components.pca import PCA
from dbx.program.record.registry import load
from dbx.program.slots import writing

pytestmark = pytest.mark.filterwarnings("ignore:zero-centering", "ignore:Step .* was changed outside dbx")


@pytest.fixture
def logged(counts):
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    return adata


def names(adata):
    return dbx.steps(adata).index.tolist()


def status(adata):
    return dbx.steps(adata)["status"].to_dict()


def test_a_step_reads_what_the_last_step_wrote(logged):
    dbx.pp.pca(logged, n_comps=4)
    table = dbx.steps(logged)
    assert names(logged) == ["normalize_total", "log1p", "pca"]
    assert table.loc["log1p", "reads"] == "X (normalize_total)"
    assert table.loc["pca", "reads"] == "X (log1p)"
    assert load(logged)["log1p"].content == {"X": "log"}


def test_a_second_run_supersedes_and_marks_what_read_the_first(logged):
    dbx.pp.pca(logged, n_comps=4)
    dbx.pp.neighbors(logged, n_neighbors=8)
    dbx.pp.pca(logged, n_comps=6)
    assert names(logged) == ["normalize_total", "log1p", "neighbors", "pca"]
    assert status(logged)["neighbors"] == "stale"
    dbx.pp.neighbors(logged, n_neighbors=8)
    assert set(status(logged).values()) == {"ok"}


def test_the_very_same_run_again_leaves_nothing_stale(logged):
    dbx.pp.pca(logged, n_comps=4)
    dbx.pp.neighbors(logged, n_neighbors=8)
    dbx.pp.pca(logged, n_comps=4)
    assert set(status(logged).values()) == {"ok"}


def test_other_slots_are_another_step(logged):
    dbx.pp.pca(logged, n_comps=4)
    dbx.pp.pca(logged, n_comps=6, key_added="pca_6")
    assert names(logged)[-2:] == ["pca", "pca_2"]


def test_a_second_log1p_composes_and_is_warned_of(logged):
    with pytest.warns(UserWarning, match="already"):
        dbx.pp.log1p(logged)
    assert names(logged) == ["normalize_total", "log1p", "log1p_2"]
    assert dbx.steps(logged).loc["log1p_2", "reads"] == "X (log1p)"


def test_counts_put_back_start_over(logged):
    dbx.pp.scale(logged)
    logged.X = logged.layers["counts"].copy()
    del logged.uns["log1p"]
    dbx.pp.normalize_total(logged, target_sum=1e4)
    dbx.pp.log1p(logged)
    assert names(logged) == ["normalize_total", "log1p"]
    assert set(status(logged).values()) == {"ok"}


def test_data_changed_outside_dbx_is_a_gap_that_stops_a_rerun(logged, counts):
    sc.pp.scale(logged)
    dbx.pp.pca(logged, n_comps=4)
    assert status(logged)["pca"] == "gap"
    assert "changed after log1p" in dbx.steps(logged).loc["pca", "reads"]
    query = counts[:40].copy()
    with pytest.raises(ValueError, match=r"'pca' reads reference\.X, which was changed outside dbx after 'log1p'"):
        dbx.rerun(query, logged, steps=["pca"])


def test_every_later_reader_of_a_change_has_the_gap(logged):
    sc.pp.scale(logged)
    dbx.pp.pca(logged, n_comps=4)
    dbx.pp.pca(logged, n_comps=3, key_added="again")
    assert list(status(logged).values()).count("gap") == 2


def test_cutting_cells_and_genes_is_no_gap(logged):
    dbx.pp.highly_variable_genes(logged, n_top_genes=100)
    cut = logged[:120, logged.var["highly_variable"]].copy()
    dbx.pp.pca(cut, n_comps=4)
    assert dbx.steps(cut).loc["pca", "reads"].startswith("X (log1p)")
    assert len(load(cut)["pca"].genes) == 100


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
@pytest.mark.parametrize("where", ["fit", "third write"])
def test_an_interrupted_step_leaves_no_trace(logged, monkeypatch, error, where):
    before = logged.copy()
    count = iter(range(99))

    def stop(*arguments, **named):
        if where == "fit" or next(count) == 2:
            raise error
        return write(*arguments, **named)

    write = writing.write
    monkeypatch.setattr(*((PCA, "fit", stop) if where == "fit" else (writing, "write", stop)))
    with pytest.raises(error):
        dbx.pp.pca(logged, n_comps=4)
    monkeypatch.undo()
    assert names(logged) == names(before)
    for mapping in ("obsm", "varm", "uns"):
        assert set(getattr(logged, mapping)) == set(getattr(before, mapping))
    assert (logged.X != before.X).nnz == 0


def test_known_log_values_where_counts_are_needed(logged):
    before = logged.X.copy()
    with pytest.raises(ValueError, match="needs raw counts.* holds log-normalised values.*layer='counts'"):
        dbx.pp.normalize_total(logged)
    assert (before != logged.X).nnz == 0


def test_nan_is_located(counts):
    adata = counts.copy()
    adata.X = adata.X.toarray()
    adata.X[5, 3] = np.nan
    with pytest.raises(ValueError, match=r"adata.X contains 1 NaN or infinite values, the first in row 5, column 3"):
        dbx.pp.pca(adata)
    adata.X[5, 3] = 1


@pytest.mark.filterwarnings("ignore:The values in .* look like raw counts")
def test_doubled_gene_names_are_refused(counts):
    adata = counts.copy()
    adata.var_names = ["g", "g", *adata.var_names[2:]]
    with pytest.raises(ValueError, match="not unique .*var_names_make_unique"):
        dbx.pp.pca(adata)


def test_batches_may_be_numbers(counts):
    named, numbered = counts.copy(), counts.copy()
    numbered.obs["batch"] = numbered.obs["batch"].cat.codes.astype(np.int64)
    for adata in (named, numbered):
        dbx.pp.normalize_total(adata)
        dbx.pp.log1p(adata)
        dbx.pp.pca(adata, n_comps=4)
        dbx.tl.harmony(adata, "batch")
    np.testing.assert_array_equal(named.obsm["X_pca_harmony"], numbered.obsm["X_pca_harmony"])


def test_two_tables_of_differential_expression_are_two_steps(counts):
    adata = counts.copy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dbx.tl.de(adata, "~ group", size_factors="poscounts")
        dbx.tl.de(adata, "~ batch", size_factors="poscounts", key_added="by_batch")
    assert names(adata) == ["de", "de_2"]


def test_cells_added_by_concat_are_a_gap(logged, counts):
    other = counts[:50].copy()
    other.obs_names = [f"other{i}" for i in range(50)]
    both = ad.concat([logged, other], uns_merge="first")
    dbx.pp.pca(both, n_comps=3)
    assert status(both)["pca"] == "gap"


def test_scanpy_s_note_of_logarithms_is_heeded(counts):
    adata = counts.copy()
    sc.pp.normalize_total(adata)
    sc.pp.log1p(adata)
    with pytest.warns(UserWarning, match=r"normalize_total needs raw counts .* adata.X seems to hold log-normalised"):
        dbx.pp.normalize_total(adata)


@pytest.mark.parametrize("state", ["a copy of our logs", "negative"])
def test_more_that_is_no_counts(logged, counts, state):
    adata = counts.copy()
    if state == "negative":
        adata.X.data[0] = -2
    else:
        adata = logged
        adata.layers["again"] = adata.X.copy()
    before = adata.X.copy()
    with pytest.raises(ValueError, match="needs raw counts"):
        dbx.pp.normalize_total(adata, layer="again" if "again" in adata.layers else None)
    assert (before != adata.X).nnz == 0


def test_log1p_of_scaled_values_is_refused(logged):
    dbx.pp.scale(logged)
    refused = pytest.raises(ValueError, match="log1p needs .* holds scaled values")
    with pytest.warns(UserWarning, match="already log-transformed"), refused:
        dbx.pp.log1p(logged)
