"""What annotation, doublets, ambient counts and denoising say of input they cannot use, and that it stays as it was."""

import re

import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import dbx
from dbx.pp import denoise, remove_ambient, scrublet, solo
from dbx.tl import annotate

N_GENES = 40
NAMES = [f"gene_{i}" for i in range(N_GENES)]
MARKERS = {"a": NAMES[:5], "b": NAMES[5:10]}
VAE = {"n_hidden": 4, "n_latent": 2, "max_epochs": 1}
CALLS = {
    "solo": lambda a, **kw: solo(a, **{"batch_key": "batch", "n_draws": 1, "classifier_epochs": 1, **VAE, **kw}),
    "scrublet": lambda a, **kw: scrublet(a, **{"batch_key": "batch", "n_prin_comps": 3, "threshold": 0.2, **kw}),
    "celltypist": lambda a, **kw: annotate(a, **{"labels_key": "label", "n_copies": 0, **kw}),
    "scanvi": lambda a, **kw: annotate(
        a, **{"method": "scanvi", "labels_key": "label", "batch_key": "batch", "label_epochs": 1, **VAE, **kw}
    ),
    "cellassign": lambda a, **kw: annotate(
        a, **{"method": "cellassign", "markers": MARKERS, "batch_key": "batch", "max_epochs": 1, **kw}
    ),
    "remove_ambient": lambda a, **kw: remove_ambient(a, **{"n_clusters": 2, **kw}),
    "denoise": lambda a, **kw: denoise(a, **{"n_units": 8, "n_latents": 2, "max_epochs": 1, **kw}),
}


def cells(n=60):
    rng = np.random.default_rng(0)
    kind, batch = rng.integers(0, 2, n), np.arange(n) % 2
    level = rng.gamma(1, size=(2, N_GENES)) + 0.1
    x = sparse.csr_matrix(rng.poisson(3 * level[kind]).astype(np.float32))
    obs = {
        "batch": np.array(["x", "y"])[batch],
        "label": np.where(np.arange(n) < 30, np.array(["a", "b"])[kind], "Unknown"),
    }
    adata = ad.AnnData(x, obs={k: v.astype(object) for k, v in obs.items()})
    adata.obs_names, adata.var_names = [f"cell_{i}" for i in range(n)], NAMES
    return adata


def put(value):
    def change(adata):
        adata.X.data[3] = value

    return change


def empty_cell(adata):
    x = adata.X.toarray()
    x[4] = 0
    adata.X = sparse.csr_matrix(x)


def column(name, value):
    def change(adata):
        adata.obs[name] = value

    return change


def gap(adata):
    adata.obs["batch"] = adata.obs["batch"].where(np.arange(adata.n_obs) != 3)


def nothing(adata):
    pass


COUNTS = "{} needs raw counts, but adata.X has "
EVERY = [
    (put(0.5), COUNTS + r"fractional values \(such as 0.5\). Name where the counts are, e.g. layer='counts'"),
    (put(-1), COUNTS + r"negative values \(smallest -1\)"),
    (put(np.nan), "adata.X contains 1 NaN or infinite values, the first in row 0, .* Remove or impute them first"),
    (put(np.inf), "adata.X contains 1 NaN or infinite values"),
    (lambda adata: adata._inplace_subset_obs(slice(0, 0)), f"adata.X is empty: 0 cells x {N_GENES} genes"),
]
NO_COUNTS = r"1 cells have no counts.* \(the first is row 4\): remove them first"
NO_LABEL = "No cell has a label, all are 'Unknown' or missing: label some cells of each type first"
SOME = [
    *[(name, empty_cell, NO_COUNTS, {}) for name in ("solo", "scanvi", "cellassign", "denoise")],
    *[
        (name, gap, f"'batch'\\] has 1 missing values, which {name} cannot use: fill them or drop these cells", {})
        for name in ("solo", "scrublet", "scanvi", "cellassign")
    ],
    *[(name, column("label", "Unknown"), NO_LABEL, {}) for name in ("celltypist", "scanvi")],
    *[(name, column("label", "a"), "All labelled cells are 'a'", {}) for name in ("celltypist", "scanvi")],
    *[
        ("solo", nothing, f"rate must be a fraction above 0 and below 1; got {rate}", {"expected_doublet_rate": rate})
        for rate in (0, 1, 1.5, -0.1)
    ],
    ("solo", nothing, "sim_doublet_ratio must be above 0; got 0", {"sim_doublet_ratio": 0}),
    ("cellassign", nothing, "No marker of 'a' is among the genes", {"markers": {"a": ["CD3D"], "b": NAMES[:3]}}),
    ("remove_ambient", nothing, r"`raw` lacks 40 of the genes \('gene_0' ...\)", {"raw": "other genes"}),
    ("remove_ambient", nothing, "rate must be a fraction of the counts.*got 1", {"rate": 1}),
]


def refused(name, change, said, **settings):
    adata = cells()
    change(adata)
    if settings.get("raw") == "other genes":
        settings["raw"] = cells()
        settings["raw"].var_names = [f"ENSG{i}" for i in range(N_GENES)]
    before = adata.copy()
    with pytest.raises(ValueError, match=said.format(name)):
        CALLS[name](adata, **settings)
    for part in ("obs", "var", "uns", "obsm", "layers", "obsp"):
        assert list(getattr(adata, part)) == list(getattr(before, part)), part
    np.testing.assert_array_equal(adata.X.toarray(), before.X.toarray())


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("number", range(len(EVERY)))
def test_matrices_that_hold_no_counts(name, number):
    refused(name, *EVERY[number])


@pytest.mark.parametrize("number", range(len(SOME)))
def test_cells_labels_batches_and_settings(number):
    name, change, said, settings = SOME[number]
    refused(name, change, said, **settings)


@pytest.fixture(scope="module")
def fitted():
    made = {}

    def of(name):
        if name not in made:
            made[name] = cells()
            CALLS[name](made[name])
        return made[name]

    return of


@pytest.mark.filterwarnings("ignore:Step 'scrublet' takes 'a third'")
@pytest.mark.parametrize("name", CALLS)
def test_queries_with_other_genes_are_refused_and_new_batches_are_not(name, fitted):
    reference, query = fitted(name), cells()[:20].copy()
    few = query[:, 5:].copy()
    with pytest.raises(ValueError, match=f"Step '{name}' needs 40 genes, of which the data lack 5: gene_0, gene_1"):
        dbx.rerun(few, reference=reference)
    assert list(few.obs) == ["batch", "label"]
    assert not few.uns
    assert not few.layers
    query.obs["batch"] = "a third"
    dbx.rerun(query, reference=reference)
    bare = cells()[:20].copy()
    del bare.obs["batch"], bare.obs["label"]
    if name in ("cellassign", "scrublet"):  # their batches have parameters
        with pytest.raises(ValueError, match=r"The new cells lack what the program starts from: adata.obs\['batch'\]"):
            dbx.rerun(bare, reference=reference)
        return
    dbx.rerun(bare, reference=reference)
    for found in (query, bare):
        added = [key for key in reference.obs if key not in ("batch", "label")]
        assert set(added) <= set(found.obs)
        assert set(reference.layers) <= set(found.layers)


@pytest.mark.parametrize("name", ["scanvi", "cellassign"])
def test_one_batch_is_as_none(name):
    one, none = cells(), cells()
    one.obs["batch"] = "x"
    CALLS[name](one)
    CALLS[name](none, batch_key=None)
    key = "annotation_confidence"
    np.testing.assert_allclose(one.obs[key], none.obs[key], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("layer", [None, "estimated"])
@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, sparse.csc_array])
def test_the_advice_on_estimated_counts_works(layer, form):
    """Salmon, kallisto and RSEM give fractions of counts: what the message says to type makes them usable."""
    adata = cells()
    estimated = form(adata.X.toarray() * np.float32(1.0001))
    adata.X = estimated if layer is None else adata.X
    if layer is not None:
        adata.layers[layer] = estimated
    with pytest.raises(ValueError, match=r"fractional values \(such as \d+\.\d+\).*salmon.*round them") as refused:
        dbx.tl.vst(adata, layer=layer, size_factors="poscounts", fit_type="mean")
    statement = re.search(r"round them, (.*), or pass", str(refused.value))[1]
    exec(statement, {"adata": adata, "numpy": np})
    expected = dbx.tl.vst(cells(), size_factors="poscounts", fit_type="mean", copy=True)
    dbx.tl.vst(adata, layer=layer, size_factors="poscounts", fit_type="mean")
    np.testing.assert_allclose(adata.layers["vst"], expected.layers["vst"], rtol=1e-12)
