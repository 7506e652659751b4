"""Second runs of dbx.tl.de: what is fitted anew, and what a recorded fit answers."""

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx
from dbx.ops.de import nb_glm
from dbx.program.record.registry import load

DESIGN = "~ batch + treatment"


@pytest.fixture(scope="module")
def samples():
    """Twelve samples of three treatments and two batches, 40 genes."""
    rng = np.random.default_rng(0)
    arm, batch = np.arange(12) % 3, np.arange(12) // 6
    mean = rng.gamma(2, 60, 40) * rng.lognormal(0, 0.3, (12, 1)) * np.exp(rng.normal(0, 0.5, (3, 40)))[arm]
    obs = pd.DataFrame({"treatment": np.array(["A", "B", "C"])[arm], "batch": np.array(["p", "q"])[batch]})
    obs.index = [f"s{i}" for i in range(12)]
    obs["depth"] = rng.uniform(0.5, 2, 12)
    counts = sparse.csr_matrix(rng.negative_binomial(10, 10 / (10 + mean)).astype(np.float32))
    return ad.AnnData(counts, obs=obs.astype({"treatment": "category", "batch": "category"}))


@pytest.fixture
def fits(monkeypatch):
    """How often a table was fitted, as a list that grows."""
    made, fit_table = [], nb_glm.fit_table

    def spy(*arguments):
        made.append(arguments)
        return fit_table(*arguments)

    monkeypatch.setattr(nb_glm, "fit_table", spy)
    return made


@pytest.fixture(scope="module")
def tested(samples):
    return dbx.tl.de(samples, DESIGN, contrast=("treatment", "B", "A"), copy=True)


def fresh(samples, design=DESIGN, **settings):
    adata = samples.copy()
    dbx.tl.de(adata, design, **settings)
    return adata


def assert_same(a, b):
    for key in ("de", "de_fit"):
        pd.testing.assert_frame_equal(a.varm[key], b.varm[key])
    for one, two in ((a.uns["de"]["params"], b.uns["de"]["params"]), (a.uns["de"]["fit"], b.uns["de"]["fit"])):
        assert {key: np.asarray(value).tolist() for key, value in one.items()} == {
            key: np.asarray(value).tolist() for key, value in two.items()
        }


ASKED = [
    {"contrast": ("treatment", "C", "B")},
    {"contrast": "batch[T.q]"},
    {"contrast": "treatment[T.C]", "alpha": 1e-3},
    {"contrast": ("treatment", "B", "A"), "lfc_threshold": 0.5, "alternative": "greater"},
    {"contrast": ("treatment", "B", "A"), "independent_filtering": False},
    {},
]


@pytest.mark.parametrize("asked", ASKED, ids=str)
def test_other_questions_need_no_other_fit(samples, tested, fits, asked):
    adata = tested.copy()
    dbx.tl.de(adata, DESIGN, **asked)
    assert not fits
    assert len(load(adata)) == 1
    assert_same(adata, fresh(samples, **asked))
    assert fits


@pytest.mark.parametrize(
    "other",
    [
        {"layer": "again"},
        {"size_factors": "depth"},
        {"size_factors": "poscounts"},
        {"design": "~ treatment"},
        {"design": "~ treatment + batch"},
        {"test": "lrt", "reduced": "~ batch"},
        {"fit_type": "mean"},
        {"dispersion": "exact"},
        {"min_mu": 0.1},
        {"cooks": False},
        {"shrink": "normal"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The parametric trend of dispersions")
def test_other_settings_and_inputs_are_fitted_anew(samples, tested, fits, other):
    adata, given = tested.copy(), {"design": DESIGN, "contrast": ("treatment", "B", "A"), **other}
    adata.layers["again"] = adata.X * 2
    adata.obs["depth"] = 1.0
    dbx.tl.de(adata, **given)
    assert len(fits) == 1
    expected = samples.copy()
    expected.layers["again"], expected.obs["depth"] = adata.layers["again"], 1.0
    dbx.tl.de(expected, **given)
    assert_same(adata, expected)


def change_counts(adata):
    adata.X = adata.X.copy()
    adata.X[3, 4] += 1


def change_levels(adata):
    adata.obs["treatment"] = adata.obs["treatment"].cat.reorder_categories(["C", "B", "A"])


def change_column(adata):
    adata.obs["batch"] = adata.obs["batch"].to_numpy()[::-1]


def change_genes(adata):
    adata._inplace_subset_var(adata.var_names[:35])


def change_order(adata):
    adata._inplace_subset_var(adata.var_names[::-1])


@pytest.mark.parametrize("change", [change_counts, change_levels, change_column, change_genes, change_order])
def test_changed_data_are_fitted_anew(samples, tested, fits, change):
    adata, expected = tested.copy(), samples.copy()
    change(adata)
    change(expected)
    dbx.tl.de(adata, DESIGN)
    assert len(fits) == 1
    dbx.tl.de(expected, DESIGN)
    np.testing.assert_array_equal(adata.varm["de"], expected.varm["de"])


@pytest.mark.filterwarnings("ignore:The parametric trend of dispersions")
def test_changed_size_factors_are_fitted_anew(samples, fits):
    adata = fresh(samples, size_factors="depth")
    adata.obs["depth"] *= 2
    dbx.tl.de(adata, DESIGN, size_factors="depth")
    assert len(fits) == 2
    np.testing.assert_array_equal(adata.obs["size_factors"], adata.obs["depth"])


@pytest.mark.filterwarnings("ignore:The parametric trend of dispersions")
def test_size_factors_in_a_column_of_that_name_stay(samples, fits):
    adata = samples.copy()
    adata.obs["size_factors"] = adata.obs["depth"]
    for contrast in ("batch[T.q]", ("treatment", "C", "A")):
        dbx.tl.de(adata, DESIGN, size_factors="size_factors", contrast=contrast)
    assert len(fits) == 1
    assert list(dbx.steps(adata).index) == ["de"]


def test_shrunken_changes_and_deges_are_of_one_contrast(samples, fits):
    """Their fit depends on what is asked."""
    for settings in ({"shrink": "apeglm"}, {"size_factors": "deges"}):
        adata = fresh(samples, **settings)
        fits.clear()
        dbx.tl.de(adata, DESIGN, contrast="batch[T.q]", **settings)
        assert len(fits) == 1
        assert_same(adata, fresh(samples, contrast="batch[T.q]", **settings))


def test_what_lies_on_disk_is_looked_at_again(samples, fits, tmp_path):
    adata = samples.copy()
    adata.X = da.from_array(samples.X.toarray(), chunks=(5, 40))
    dbx.tl.de(adata, DESIGN)
    dbx.tl.de(adata, DESIGN, contrast="batch[T.q]")
    assert len(fits) == 1
    swapped = samples.X.toarray()
    swapped[[0, 6], 3] = swapped[[6, 0], 3]  # the gene's counts are the same, between samples
    adata.X = da.from_array(swapped, chunks=(5, 40))
    dbx.tl.de(adata, DESIGN, contrast="batch[T.q]")
    assert len(fits) == 2
    expected = samples.copy()
    expected.X = swapped
    dbx.tl.de(expected, DESIGN, contrast="batch[T.q]")
    np.testing.assert_allclose(adata.varm["de"], expected.varm["de"], rtol=1e-9)


def no_fit(*arguments):
    msg = "it was fitted again"
    raise AssertionError(msg)


@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_a_file_answers_other_questions(samples, tested, monkeypatch, tmp_path, kind):
    getattr(tested, f"write_{kind}")(tmp_path / f"x.{kind}")
    back = getattr(ad, f"read_{kind}")(tmp_path / f"x.{kind}")
    pd.testing.assert_frame_equal(dbx.get.de(back), dbx.get.de(tested), check_dtype=False)
    assert list(dbx.steps(back).index) == ["de"]
    asked = {"contrast": ("treatment", "C", "B"), "alpha": 0.01}
    expected = fresh(samples, **asked)
    with monkeypatch.context() as patch:
        patch.setattr(nb_glm, "fit_table", no_fit)
        dbx.rerun(back, config={"de": asked})
        assert_same(back, expected)
        dbx.tl.de(back, DESIGN, contrast=("treatment", "B", "A"))
        assert_same(back, tested)
    assert load(back)["de"].config["contrast"] == ["treatment", "B", "A"]
    dbx.rerun(back, refit=True)
    assert_same(back, tested)


def test_a_rerun_with_other_settings_fits_where_it_must(samples, tested, fits):
    adata = tested.copy()
    dbx.rerun(adata, config={"de": {"alpha": 0.2}})
    assert not fits
    dbx.rerun(adata, config={"de": {"fit_type": "mean"}})
    assert len(fits) == 1
    assert_same(adata, fresh(samples, contrast=("treatment", "B", "A"), alpha=0.2, fit_type="mean"))


def test_new_samples_get_size_factors_and_no_test(samples, tested):
    query = samples[:6].copy()
    query.obs = query.obs[[]]  # they need no columns of the design
    query.obs_names = [f"new{i}" for i in range(6)]
    query.X = query.X * 3
    dbx.rerun(query, reference=tested)
    assert not query.varm
    assert not {"params", "fit", "results"} & set(query.uns.get("de", {}))
    np.testing.assert_allclose(query.obs["size_factors"], 3 * tested.obs["size_factors"][:6].to_numpy(), rtol=1e-12)


def test_new_samples_have_no_size_factors_by_likelihood(samples):
    reference = fresh(samples, size_factors="iterate")
    query = samples[:6].copy()
    with pytest.warns(UserWarning, match=r"Not computed for new cells.*'de' \(obs/size_factors\)"):
        dbx.rerun(query, reference=reference)
    assert "size_factors" not in query.obs


def test_two_tests_stand_side_by_side(samples, tested):
    adata = tested.copy()
    dbx.tl.de(adata, "~ treatment", key_added="simple")
    assert list(dbx.steps(adata).index) == ["de", "de_2"]
    assert_same(adata, tested)
    simple = fresh(samples, "~ treatment", key_added="simple")
    pd.testing.assert_frame_equal(adata.varm["simple"], simple.varm["simple"])
