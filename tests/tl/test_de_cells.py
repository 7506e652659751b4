"""Cells summed per sample and group, and cells tested as they are."""

import subprocess
import sys
import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import dbx
from dbx.ops.de import nb_glm
from dbx.ops.de.fit import prepare

DONORS = [f"d{i:02}" for i in range(12)]
CONDITION = dict(zip(DONORS, "AAAABBBBCCCC", strict=True))
BATCH = dict(zip(DONORS, "pqpqpqpqpqpq", strict=True))
CONTRAST = ("condition", "B", "A")


@pytest.fixture(scope="module")
def cells():
    """Twelve donors of three conditions with cells of two types, and of "rare" in two of them; 60 genes."""
    rng = np.random.default_rng(0)
    donor = np.repeat(np.arange(12), 20)
    kind = rng.choice(np.array(["T", "B"], object), 240)
    kind[np.isin(donor, [0, 4]) & (rng.random(240) < 0.3)] = "rare"
    arm = donor // 4
    level = rng.gamma(2, 4, 60)
    base = level * np.exp(np.sqrt(0.05 + 1 / level) * rng.normal(size=(12, 60)))[donor]
    effect = np.where(np.arange(60) < 15, rng.choice([-1, 1], 60), 0.0)
    mean = rng.lognormal(0, 0.3, (240, 1)) * base * np.exp(effect * (arm == 1)[:, None])
    counts = rng.poisson(mean).astype(np.float32)
    counts[kind == "B", 7] = 0
    obs = pd.DataFrame({"donor": np.array(DONORS)[donor], "kind": kind}, index=[f"c{i}" for i in range(240)])
    obs["condition"], obs["batch"] = obs["donor"].map(CONDITION), obs["donor"].map(BATCH)
    obs["depth"] = obs["donor"].map(dict(zip(DONORS, rng.uniform(0.5, 2, 12), strict=True)))
    var = pd.DataFrame(index=[f"g{i}" for i in range(60)])
    order = rng.permutation(240)  # cells of a donor do not lie together
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs, var=var)[order].copy()


def summed(cells, kind=None, min_cells=1):
    """The sums by pandas, as samples."""
    part = cells if kind is None else cells[cells.obs["kind"] == kind]
    table = part.to_df().astype(np.float64).groupby(part.obs["donor"].to_numpy()).sum()
    n_cells = part.obs["donor"].value_counts()[table.index]
    table = table[n_cells >= min_cells]
    obs = pd.DataFrame({"condition": table.index.map(CONDITION), "batch": table.index.map(BATCH)}, index=table.index)
    return ad.AnnData(table.to_numpy(), obs=obs, var=pd.DataFrame(index=table.columns)), n_cells


@pytest.fixture(scope="module")
def tested(cells):
    adata = cells.copy()
    with warnings.catch_warnings():  # 240 cells, but they are summed
        warnings.simplefilter("error")
        dbx.tl.de(adata, "~ condition", contrast=CONTRAST, sample_key="donor")
    return adata


@pytest.fixture(scope="module")
def grouped(cells):
    adata = cells.copy()
    with pytest.warns(UserWarning, match="1 groups could not be tested. rare: There are 2 samples"):
        dbx.tl.de(adata, "~ condition", contrast=CONTRAST, sample_key="donor", group_key="kind")
    return adata


def test_sums_are_tested_as_samples(cells, tested):
    samples, n_cells = summed(cells)
    dbx.tl.de(samples, "~ condition", contrast=CONTRAST)
    pd.testing.assert_frame_equal(tested.varm["de"], samples.varm["de"])
    pd.testing.assert_frame_equal(tested.varm["de_fit"], samples.varm["de_fit"])
    assert "size_factors" not in tested.obs
    table = tested.uns["de"]["samples"]
    assert list(table.columns) == ["sample", "n_cells", "size_factor"]
    of_samples = table.set_index(table["sample"].astype(str)).loc[samples.obs_names]
    np.testing.assert_array_equal(of_samples["n_cells"], n_cells.loc[samples.obs_names])
    np.testing.assert_allclose(of_samples["size_factor"], samples.obs["size_factors"], rtol=1e-12)
    assert tested.uns["de"]["fit"]["n_samples"] == 12


def test_each_group_is_a_call_of_its_own(cells, grouped):
    table = grouped.uns["de"]["results"]
    assert not grouped.varm
    assert list(table.columns) == ["group", "gene", "baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"]
    assert list(table["group"].unique()) == ["B", "T"]
    for kind in ("B", "T"):
        samples, _ = summed(cells, kind)
        dbx.tl.de(samples, "~ condition", contrast=CONTRAST)
        own = table[table["group"] == kind]
        there = samples.varm["de"][samples.varm["de"]["baseMean"] > 0]
        assert own["gene"].tolist() == there.index.tolist()
        assert len(own) == (59 if kind == "B" else 60)  # genes without counts have no row
        pd.testing.assert_frame_equal(own[there.columns].set_index(there.index), there)
        fact = grouped.uns["de"]["fit"].set_index("group").loc[kind]
        for key in ("prior_variance", "var_log_dispersions", "filter_threshold", "filter_theta", "n_samples"):
            np.testing.assert_allclose(fact[key], samples.uns["de"]["fit"][key], rtol=1e-12)
        assert fact["trend"] == samples.uns["de"]["fit"]["trend"]
        sizes = grouped.uns["de"]["samples"]
        sizes = sizes[sizes["group"] == kind].set_index("sample")["size_factor"]
        np.testing.assert_allclose(sizes.loc[samples.obs_names], samples.obs["size_factors"], rtol=1e-12)


def test_groups_that_cannot_be_tested_say_why(cells, grouped):
    facts = grouped.uns["de"]["fit"].set_index("group")
    assert facts["trend"]["rare"] == "none"
    assert "rare" not in set(grouped.uns["de"]["samples"]["group"])
    assert np.isnan(facts["prior_variance"]["rare"])
    assert "replicates" in facts["note"]["rare"]
    adata = cells[cells.obs["kind"] == "rare"].copy()
    with pytest.raises(ValueError, match="No group can be tested.\n'rare': "):
        dbx.tl.de(adata, "~ condition", contrast=CONTRAST, sample_key="donor", group_key="kind")
    assert not adata.uns


def test_groups_answer_other_questions(cells, grouped, monkeypatch, tmp_path):
    expected = cells.copy()
    with pytest.warns(UserWarning, match="rare"):
        dbx.tl.de(expected, "~ condition", contrast=("condition", "C", "A"), sample_key="donor", group_key="kind")
    grouped.write_h5ad(tmp_path / "x.h5ad")
    back = ad.read_h5ad(tmp_path / "x.h5ad")
    assert list(dbx.get.de(back)["group"].unique()) == list(dbx.get.de(grouped)["group"].unique())
    monkeypatch.setattr(nb_glm, "fit_table", None)
    dbx.rerun(back, config={"de": {"contrast": ("condition", "C", "A")}})
    again = grouped.copy()
    with pytest.warns(UserWarning, match="rare"):
        dbx.tl.de(again, "~ condition", contrast=("condition", "C", "A"), sample_key="donor", group_key="kind")
    for adata in (back, again):
        pd.testing.assert_frame_equal(adata.uns["de"]["results"], expected.uns["de"]["results"], check_dtype=False)
        pd.testing.assert_frame_equal(adata.uns["de"]["fit"], expected.uns["de"]["fit"], check_dtype=False)


def test_a_question_that_other_groups_can_answer_is_fitted_anew(cells, grouped):
    """Cells of two conditions alone: the comparison with the third needs another set of groups."""
    adata = cells.copy()
    adata.obs.loc[(adata.obs["kind"] == "T") & (adata.obs["condition"] == "C"), "kind"] = "B"
    given = {"sample_key": "donor", "group_key": "kind"}
    with pytest.warns(UserWarning, match="1 groups could not be tested. rare"):
        dbx.tl.de(adata, "~ condition", contrast=CONTRAST, **given)
    assert set(adata.uns["de"]["results"]["group"]) == {"B", "T"}
    with pytest.warns(UserWarning, match="2 groups could not be tested. T: .*no level 'C'.*rare"):
        dbx.tl.de(adata, "~ condition", contrast=("condition", "C", "A"), **given)
    assert set(adata.uns["de"]["results"]["group"]) == {"B"}


def test_settings_reach_the_groups(cells):
    adata = cells[cells.obs["kind"] == "T"].copy()
    given = {"sample_key": "donor", "group_key": "kind", "contrast": CONTRAST}
    settings = {"test": "lrt", "reduced": "~ batch", "fit_type": "mean", "size_factors": "poscounts", "min_cells": 8}
    dbx.tl.de(adata, "~ batch + condition", **given, **settings, key_added="lrt")
    table = adata.uns["lrt"]["results"]
    samples, n_cells = summed(adata, min_cells=settings.pop("min_cells"))
    assert samples.n_obs < len(n_cells)
    dbx.tl.de(samples, "~ batch + condition", contrast=CONTRAST, **settings)
    there = samples.varm["de"][samples.varm["de"]["baseMean"] > 0]
    own = table.set_index("gene").loc[there.index, there.columns]
    np.testing.assert_allclose(own, there, rtol=1e-12)


def test_apeglm_of_groups_has_s_values(cells):
    adata = cells[cells.obs["kind"] != "rare"].copy()
    dbx.tl.de(adata, "~ condition", contrast=CONTRAST, sample_key="donor", group_key="kind", shrink="apeglm")
    table = adata.uns["de"]["results"]
    assert table.columns[-1] == "svalue"
    samples, _ = summed(adata, "T")
    dbx.tl.de(samples, "~ condition", contrast=CONTRAST, shrink="apeglm")
    own = table[table["group"] == "T"]
    np.testing.assert_allclose(own["svalue"], samples.varm["de"]["svalue"], rtol=1e-9)
    np.testing.assert_allclose(own["log2FoldChange"], samples.varm["de"]["log2FoldChange"], rtol=1e-9)


def test_size_factors_of_ones_own(cells):
    adata = cells.copy()
    dbx.tl.de(adata, "~ condition", contrast=CONTRAST, sample_key="donor", size_factors="depth")
    samples, _ = summed(cells)
    samples.obs["depth"] = cells.obs.groupby("donor", observed=True)["depth"].first()
    dbx.tl.de(samples, "~ condition", contrast=CONTRAST, size_factors="depth")
    pd.testing.assert_frame_equal(adata.varm["de"], samples.varm["de"])


def test_new_cells_are_not_tested(cells, tested):
    query = cells[:50].copy()
    dbx.rerun(query, reference=tested)
    assert not query.varm
    assert "size_factors" not in query.obs


@pytest.mark.parametrize(
    ("design", "given", "words"),
    [
        ("~ kind", {}, "'kind' is a column of cells, not of samples"),
        ("~ condition + kind", {"group_key": "kind"}, "'kind', which is also the group_key"),
        ("~ condition", {"min_cells": 10_000}, "No sample has min_cells=10000 cells"),
        ("~ condition", {"size_factors": "umi"}, "'umi' is a column of cells"),
        ("~ donor", {}, "12 samples for the 12 coefficients"),
        ("~ condition", {"group_key": "kind", "contrast": ("condition", "Z", "A")}, "no level 'Z'"),
    ],
)
def test_wrong_columns_in_words(cells, design, given, words):
    adata = cells.copy()
    adata.obs["umi"] = np.arange(1.0, 241)
    with pytest.raises(ValueError, match=words):
        dbx.tl.de(adata, design, sample_key="donor", **given)
    assert not adata.varm
    assert not adata.uns


# --- cells as they are -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many():
    rng = np.random.default_rng(1)
    line, half = rng.integers(0, 2, 800), np.arange(800) % 2
    mean = rng.lognormal(0, 0.4, (800, 1)) * rng.gamma(1, 3, 80) * np.exp(rng.normal(0, 0.4, (2, 80)))[line]
    counts = rng.negative_binomial(2, 2 / (2 + mean)).astype(np.float32)
    obs = pd.DataFrame({"line": np.array(["x", "y"])[line], "half": np.array(["l", "r"])[half]})
    obs.index = [f"c{i}" for i in range(800)]
    return ad.AnnData(sparse.csr_matrix(counts), obs=obs)


def of_cells(many, **settings):
    adata = many.copy()
    with pytest.warns(UserWarning, match="800 observations .* not replicates"):
        dbx.tl.de(adata, "~ half + line", size_factors="poscounts", **settings)
    return adata


def test_many_cells_have_no_floor_and_no_replacement(many, monkeypatch):
    adata = of_cells(many)
    shared, fit = adata.uns["de"]["fit"], adata.varm["de_fit"]
    assert shared["min_mu"] == 1e-6
    assert not fit["replace"].any()
    assert fit["maxCooks"].notna().all()
    monkeypatch.setattr(prepare, "MANY_CELLS", 10_000)
    by_cell = of_cells(many)
    for name in ("baseMean", "baseVar", "dispFit", "dispGeneEst", "dispMAP", "dispersion"):
        np.testing.assert_allclose(fit[name], by_cell.varm["de_fit"][name], rtol=1e-6, err_msg=name)
    beta = fit.filter(like="beta:")
    np.testing.assert_allclose(beta, by_cell.varm["de_fit"][beta.columns], atol=2e-4)


MEMORY = """
import warnings
import anndata as ad
import numpy as np
import pandas as pd
from scipy import sparse
import dbx

def cells(n_cells, n_genes):
    rng = np.random.default_rng(0)
    mean, parts = rng.gamma(0.4, 0.6, n_genes), []
    for _ in range(n_cells // 1000):
        size = rng.lognormal(0, 0.3, (1000, 1))
        parts.append(sparse.csr_matrix(rng.negative_binomial(1, 1 / (1 + mean * size)).astype(np.float32)))
    obs = {key: rng.choice(["a", "b"], n_cells) for key in ("line", "batch")}
    return ad.AnnData(sparse.vstack(parts, format="csr"), obs=pd.DataFrame(obs, index=list(map(str, range(n_cells)))))

def peak():
    # of this program alone: ru_maxrss starts at what the parent held when it started the process
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

warnings.simplefilter("ignore")
dbx.tl.de(cells(1000, 200), "~ batch + line", size_factors="poscounts")  # what is compiled is not the data's
adata = cells(30_000, 1000)
before = peak()
dbx.tl.de(adata, "~ batch + line", size_factors="poscounts")
print(peak() - before)
"""


@pytest.mark.arithmetic
@pytest.mark.slow
def test_memory_of_cells():
    """30,000 cells x 1,000 genes, a seventh not zero: 240 MB as one dense copy, which would not fit."""
    done = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.split()[-1]) < 210e6
