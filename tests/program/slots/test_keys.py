"""Keys that a user names, in every function that takes one."""

import inspect

import anndata as ad
import numpy as np
import pytest
import scanpy as sc

import dbx

pytestmark = pytest.mark.filterwarnings("ignore:The values in .* look like raw counts")

ARGUMENTS = ("key_added", "adjusted_basis")
FUNCTIONS = {
    f"{module.__name__}.{name}": (getattr(module, name), argument)
    for module in (dbx.pp, dbx.tl, dbx)
    for name in module.__all__
    if inspect.isfunction(getattr(module, name))
    for argument in ARGUMENTS
    if argument in inspect.signature(getattr(module, name)).parameters
}


def call(function, **arguments):
    """Call with None for what has no default: the key is looked at before anything else."""
    adata = ad.AnnData(np.ones((4, 3), np.float32))
    needed = [p for p in inspect.signature(function).parameters.values() if p.default is p.empty]
    needed = [p for p in needed[1:] if p.kind is not p.VAR_KEYWORD]
    function(adata, **{p.name: None for p in needed}, **arguments)
    return adata


@pytest.mark.parametrize(("function", "argument"), FUNCTIONS.values(), ids=FUNCTIONS)
def test_a_slash_is_refused_with_a_name_that_would_do(function, argument):
    with pytest.raises(ValueError, match=rf"{argument} must be a name without '/'.*got 'T/NK'.*such as 'T_NK'"):
        call(function, **{argument: "T/NK"})
    with pytest.raises(ValueError, match=f"{argument} must be a name .*got ''"):
        call(function, **{argument: ""})
    with pytest.raises(TypeError, match=f"{argument} must be a string; got 3"):
        call(function, **{argument: 3})


def test_many_functions_were_tried():
    assert len(FUNCTIONS) >= 19


@pytest.fixture
def adata(rng):
    adata = ad.AnnData(rng.poisson(2.0, (30, 12)).astype(np.float32))
    adata.layers["T/NK"] = adata.X.copy()
    adata.obsm["T/NK"] = rng.normal(size=(30, 4)).astype(np.float32)
    adata.obs["batch/day"] = np.resize(["a", "b"], 30)
    adata.var["T/NK"] = np.arange(12) < 8
    return adata


CALLS = {
    "use_rep": lambda a, key: dbx.pp.neighbors(a, use_rep=key, n_neighbors=5),
    "layer": lambda a, key: dbx.pp.pca(a, layer=key, n_comps=2),
    "obsm": lambda a, key: dbx.pp.pca(a, obsm=key, n_comps=2),
    "mask_var": lambda a, key: dbx.pp.pca(a, mask_var=key, n_comps=2),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_keys_of_other_tools_that_have_one_are_read(adata, call):
    other = adata.copy()
    for mapping in (other.layers, other.obsm, other.var):
        mapping["TNK"] = mapping["T/NK"]
    call(adata, "T/NK")
    call(other, "TNK")
    for key in set(other.obsm) & {"X_pca"}:
        np.testing.assert_array_equal(adata.obsm[key], other.obsm[key])
    for key in other.obsp:
        assert (adata.obsp[key] != other.obsp[key]).nnz == 0
    assert set(dbx.steps(adata)["status"]) <= {"ok", "outside"}


def test_neighbours_of_scanpy_under_such_a_key(adata):
    sc.pp.neighbors(adata, use_rep="T/NK", n_neighbors=5, key_added="graph T/NK")
    dbx.tl.leiden(adata, neighbors_key="graph T/NK", flavor="igraph", n_iterations=2, directed=False)
    assert adata.obs["leiden"].notna().all()


def test_columns_with_a_slash_are_batches(adata):
    dbx.pp.highly_variable_genes(adata, batch_key="batch/day", flavor="cell_ranger", n_top_genes=5)
    assert adata.var["highly_variable"].sum() == 5
