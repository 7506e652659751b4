"""Programs of earlier schemas, and of operators that are not here, are read and say what they need."""

import sys
from pathlib import Path

import anndata as ad
import numpy as np
import pytest

import dbx
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.installed import where_it_is
from dbx.program.record.registry import Registry, load

PROGRAMS = Path(__file__).parents[1] / "reference/programs"


@pytest.fixture
def small(counts):
    adata = counts.copy()
    adata.layers["counts"] = adata.X.copy()
    return adata


@pytest.fixture(scope="module")
def old():
    return ad.read_h5ad(PROGRAMS / "schema1.h5ad")


def test_a_program_of_schema_1_is_listed(old):
    assert int(old.uns["dbx"]["schema"]) == 1
    table = dbx.steps(old)
    assert list(table.index) == [
        *("vae_normalize", "normalize_total", "log1p", "highly_variable_genes"),
        *("pca", "harmony", "neighbors", "umap", "leiden"),
    ]
    assert (table["status"] == "ok").all()
    assert all(step.package is None for step in load(old))


def test_a_program_of_schema_1_maps_new_cells_as_the_dbx_that_wrote_it(old):
    query, mapped = ad.read_h5ad(PROGRAMS / "schema1_query.h5ad"), np.load(PROGRAMS / "schema1_mapped.npz")
    dbx.rerun(query, old)
    # float32 sums in another order, of another machine's matrix products; relative to each result's largest entry
    for name, slot in {"pca": "X_pca", "harmony": "X_pca_harmony", "vae": "X_vae", "umap": "X_umap"}.items():
        scale = np.abs(mapped[name]).max()
        np.testing.assert_allclose(query.obsm[slot] / scale, mapped[name] / scale, atol=1e-5, err_msg=name)
    np.testing.assert_array_equal(query.obs["leiden"].astype(str), mapped["leiden"])
    assert all(step.mapped for step in load(query))


def test_a_step_names_the_package_of_its_operator(small):
    dbx.pp.normalize_total(small)
    assert load(small)["normalize_total"].package == f"dbx-bio=={dbx.__version__}"


def with_operator(step, operator, package):
    """A program whose step needs another operator."""
    fields = {name: getattr(step, name) for name in step.__dataclass_fields__}
    return Registry([type(step)(**{**fields, "operator": operator, "package": package})]).to_uns("0.1.0")


@pytest.mark.parametrize(
    ("package", "sentence"),
    [
        ("dbx-levitate==1.2", r"in the package dbx-levitate, which is not installed: pip install dbx-levitate==1\.2"),
        ("numpy==0.1", r"in numpy 0\.1, but is not in the installed numpy .*: pip install numpy==0\.1"),
        ("", "its package is not recorded"),
        ("x==1; rm -rf /", "its package is not recorded"),
        (None, r"which this dbx does not have: install dbx 0\.1\.0"),
    ],
)
def test_a_missing_operator_is_asked_for_by_its_package(small, package, sentence):
    dbx.pp.normalize_total(small)
    small.uns["dbx"] = with_operator(load(small)["normalize_total"], "levitate", package)
    assert dbx.steps(small)["operator"].tolist() == ["levitate"]
    with pytest.raises(LookupError, match=f"needs the operator 'levitate'.*{sentence}"):
        load(small)["normalize_total"].build()
    query = ad.AnnData(small.layers["counts"].copy(), var=small.var[[]])
    with pytest.raises(ValueError, match=f"needs the operator 'levitate'.*{sentence}"):
        dbx.rerun(query, small)


@pytest.mark.parametrize("name", ["antigravity", "antigravity:fly_to", "dbx.ops.components.pca:PCA"])
def test_no_name_in_a_file_is_imported(small, name):
    dbx.pp.normalize_total(small)
    small.uns["dbx"] = with_operator(load(small)["normalize_total"], name, "antigravity==1")
    with pytest.raises(LookupError):
        load(small)["normalize_total"].build()
    assert "antigravity" not in sys.modules


def test_another_operator_of_the_same_name_is_refused_before_it_is_fitted(small):
    class Mine(CATALOGUE["normalize_total"]):
        def fit(self, **_):
            pytest.fail("was fitted")

    with pytest.raises(ValueError, match="has the same name 'normalize_total' as dbx"):
        dbx.program.run_step(small, Mine(), reads={"x": "X"}, writes={})
    assert "dbx" not in small.uns


def test_where_it_is_says_nothing_of_what_pip_would_not_take():
    assert where_it_is("--index-url=http://x==1") == "its package is not recorded"
