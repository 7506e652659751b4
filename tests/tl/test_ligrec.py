"""Ligand-receptor pairs: planted signals and decoys, permuted labels, wrong uses, tables of squidpy."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx
from dbx._warnings import DbxWarning
from dbx.program.slots.slots import SlotError

PAIRS = pd.DataFrame(
    {"ligand": [f"L{i}" for i in range(12)], "receptor": [f"R{i}_S{i}" if i % 3 == 0 else f"R{i}" for i in range(12)]}
)


@pytest.fixture(scope="module")
def cells():
    """Pairs 0 to 3 are raised in both groups (k0, k1); of 4 to 9 only the ligand is, in 9 one subunit too."""
    rng = np.random.default_rng(0)
    genes = [f"{kind}{i}" for i in range(12) for kind in "LRS"]
    group = rng.integers(0, 4, 500)
    means = pd.DataFrame(np.exp(rng.normal(-0.5, 0.5, (1, 36)).repeat(500, 0)), columns=genes)
    for i in range(10):
        means.loc[group == 0, f"L{i}"] *= 4
    for i in range(4):
        means.loc[group == 1, [f"R{i}", f"S{i}"]] *= 4
    means.loc[group == 1, "R9"] *= 4
    counts = rng.poisson(means.to_numpy() * rng.gamma(3.0, 1 / 3, (500, 1))).astype(np.float32)
    made = ad.AnnData(np.log1p(counts), obs={"group": pd.Categorical([f"k{g}" for g in group])})
    made.var_names = genes
    made.obsm["spatial"] = rng.uniform(0, 20, (500, 2))
    return made


def test_both_sides_are_needed(cells):
    """The planted pairs and none with one side only, of which CellPhoneDB's test calls most."""
    adata = dbx.tl.ligrec(cells, "group", resource=PAIRS, copy=True)
    table = adata.uns["ligrec"]
    called = table[table["padj_specific"] < 0.05]
    assert set(map(tuple, called.iloc[:, :3].astype(str).to_numpy())) == {("k0", "k1", f"L{i}") for i in range(4)}
    assert (table["pvalue_specific"].diff().iloc[1:] >= 0).all()
    decoys = table[(table["source"] == "k0") & table["ligand_complex"].isin([f"L{i}" for i in range(4, 10)])]
    assert (decoys["cellphone_pvals"] < 0.05).mean() > 0.6
    assert (decoys["padj_specific"] > 0.05).all()
    assert "ligrec" not in cells.uns


def test_permuted_labels(cells):
    shuffled = cells.copy()
    shuffled.obs["group"] = np.random.default_rng(1).permutation(cells.obs["group"].astype(str))
    with pytest.warns(DbxWarning, match="conservative"):
        dbx.tl.ligrec(shuffled, "group", resource=PAIRS)
    table = shuffled.uns["ligrec"]
    assert (table["pvalue_specific"] < 0.05).mean() < 0.05
    assert table["padj_specific"].min() > 0.05
    assert 0.4 < table["cellphone_pvals"].mean() < 0.6


def test_settings_change_the_table(cells):
    def table(**given):
        return dbx.tl.ligrec(cells, "group", resource=PAIRS, copy=True, **given).uns["ligrec"]

    usual = table()
    assert (usual["ligand_props"] >= 0.1).all()
    strict = table(expr_prop=0.6)
    assert 0 < len(strict) < len(usual)
    assert (strict[["ligand_props", "receptor_props"]] >= 0.6).all(axis=None)
    apart = table(complex_policy="all")
    assert set(apart["receptor_complex"]) == {*(f"R{i}" for i in range(12)), *(f"S{i}" for i in range(0, 12, 3))}
    counted = table(analytic=False, n_perms=50)
    np.testing.assert_allclose(counted["cellphone_pvals"] * 51, np.rint(counted["cellphone_pvals"] * 51), atol=1e-9)
    pd.testing.assert_frame_equal(counted, table(analytic=False, n_perms=50))
    assert not counted.equals(table(analytic=False, n_perms=50, random_state=1))
    near, far = table(spatial_key="spatial", radius=1.0), table(spatial_key="spatial", n_neighs=3)
    assert not np.allclose(near["score_spatial"], far["score_spatial"])


def test_new_cells_keep_the_table_unless_refitted(cells):
    reference, query = cells[:300].copy(), cells[300:].copy()
    dbx.tl.ligrec(reference, "group", resource=PAIRS)
    dbx.rerun(query, reference=reference)
    assert "ligrec" not in query.uns
    dbx.rerun(query, reference=reference, refit=True)
    own = dbx.tl.ligrec(cells[300:], "group", resource=PAIRS, copy=True)
    pd.testing.assert_frame_equal(query.uns["ligrec"], own.uns["ligrec"])


def test_scores_of_the_operator_are_those_of_the_table(cells):
    adata = dbx.tl.ligrec(cells, "group", resource=PAIRS, copy=True)
    operator = dbx.ops.LigandReceptor(
        ligands=("L0",), receptors=("R0_S0",), ligand_columns=((0,),), receptor_columns=((1, 2),)
    )
    from dbx.data import RowBlocks
    from dbx.program import as_codes

    codes = as_codes(cells.obs["group"])
    operator.fit(x=RowBlocks(cells.X[:, :3], dtype=np.float64), labels=codes)
    table = adata.uns["ligrec"].set_index(["source", "target", "ligand_complex"])["score"]
    found = operator.scores(cells.X[:, :3], codes.codes)
    np.testing.assert_allclose(found[0, 1, 0], table["k0", "k1", "L0"], rtol=1e-4)  # float32


def test_small_groups_are_left_out(cells):
    adata = cells.copy()
    adata.obs["group"] = adata.obs["group"].cat.add_categories("tiny")
    adata.obs.loc[adata.obs_names[:3], "group"] = "tiny"
    adata.obs.loc[adata.obs_names[3:6], "group"] = np.nan
    with pytest.warns(DbxWarning, match="min_cells=5 cells are left out: 'tiny'"):
        dbx.tl.ligrec(adata, "group", resource=PAIRS)
    rest = dbx.tl.ligrec(cells[6:], "group", resource=PAIRS, copy=True)
    pd.testing.assert_frame_equal(adata.uns["ligrec"], rest.uns["ligrec"])


def test_counts_are_warned_of(cells):
    adata = cells.copy()
    adata.X = np.rint(np.expm1(adata.X))
    with pytest.warns(DbxWarning, match="raw counts"):
        dbx.tl.ligrec(adata, "group", resource=PAIRS)


@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ({"resource": PAIRS.rename(columns={"ligand": "a"})}, ValueError, "columns 'ligand' and 'receptor'"),
        ({"resource": pd.DataFrame({"ligand": ["l0"], "receptor": ["r1"]})}, ValueError, "upper and lower case"),
        ({"expr_prop": 1.0}, ValueError, "lower expr_prop"),
        ({"min_cells": 400}, ValueError, "two of min_cells=400 cells or more"),
        ({"n_perms": 0}, ValueError, "n_perms must be at least 1"),
        ({"spatial_key": "X_space"}, KeyError, "X_space"),
        ({"spatial_key": "spatial", "radius": 1e-6}, ValueError, "No cells touch"),
        ({"radius": 1.0}, ValueError, "spatial_key"),
        ({"use_raw": True}, ValueError, "adata.raw is empty"),
        ({"complex_policy": "any"}, ValueError, "complex_policy"),
        ({"base": 1}, ValueError, "base is that of logarithms"),
        ({"base": -2.0}, ValueError, "base must be above 0"),
    ],
)
def test_wrong_uses(cells, given, error, match):
    adata = cells.copy()
    with pytest.raises(error, match=match):
        dbx.tl.ligrec(adata, "group", **{"resource": PAIRS, **given})
    assert dict(adata.uns) == {}


def test_missing_coordinates(cells):
    adata = cells.copy()
    adata.obsm["spatial"][7] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        dbx.tl.ligrec(adata, "group", resource=PAIRS, spatial_key="spatial")


def test_a_base_that_is_no_number(cells):
    adata = cells.copy()
    adata.uns["log1p"] = {"base": "two"}
    with pytest.raises(ValueError, match=r"adata\.uns\['log1p'\]\['base'\] must be the base of the logarithms"):
        dbx.tl.ligrec(adata, "group", resource=PAIRS)


def test_cells_far_from_all_others_are_said(cells):
    adata = cells.copy()
    adata.obsm["spatial"][:2] += [[1e4, 0], [0, 1e4]]
    with pytest.warns(DbxWarning, match="2 cells are far from all others: their nearest neighbour is 9.98e"):
        dbx.tl.ligrec(adata, "group", resource=PAIRS, spatial_key="spatial")


def test_scaled_values_are_warned_of(cells):
    adata = cells.copy()
    adata.X = adata.X - adata.X.mean(axis=0)
    with pytest.warns(DbxWarning, match="negative values, as scaled values have"):
        dbx.tl.ligrec(adata, "group", resource=PAIRS)


def test_one_group(cells):
    adata = cells.copy()
    adata.obs["one"] = "same"
    with pytest.raises(ValueError, match="two of min_cells=5 cells or more are needed; got 1"):
        dbx.tl.ligrec(adata, "one", resource=PAIRS)


def test_tables_of_squidpy(cells):
    adata = dbx.tl.ligrec(cells, "group", resource=PAIRS, copy=True, expr_prop=0.3)
    long, wide = dbx.get.ligrec(adata), dbx.get.ligrec(adata, as_="squidpy")
    assert wide["means"].index.names == ["source", "target"]
    assert wide["pvalues"].columns.names == ["cluster_1", "cluster_2"]
    assert wide["pvalues"].notna().to_numpy().sum() == len(long)
    row = long.iloc[5]
    at = (row["ligand_complex"], row["receptor_complex"]), (row["source"], row["target"])
    assert wide["means"].loc[at] == row["lr_means"]
    assert wide["pvalues"].loc[at] == row["cellphone_pvals"]
    assert len(dbx.get.ligrec(adata, padj=0.05)) == 4
    texts = dbx.get.ligrec(adata, as_="liana")[["source", "target", "ligand_complex", "receptor_complex"]]
    assert set(texts.dtypes) == {np.dtype(object)}  # liana.pl adds texts
    joined = texts[["source", "target"]].agg(" to ".join, axis=1)
    assert joined[5] == f"{row['source']} to {row['target']}"
    with pytest.raises(SlotError, match=r"run dbx\.tl\.ligrec first"):
        dbx.get.ligrec(adata, "other")


def test_log_fold_changes_are_those_of_amounts(cells):
    """By pandas, of the weakest subunit; in logarithms to another base once that is known."""
    amounts = pd.DataFrame(np.expm1(cells.X.astype(float)), columns=cells.var_names)
    label = cells.obs["group"].to_numpy()
    weakest = amounts[label == "k1"][["R0", "S0"]].apply(np.log1p).mean().idxmin()

    def change(gene, group):
        return np.log2(amounts[gene][label == group].mean() + 1) - np.log2(amounts[gene][label != group].mean() + 1)

    expected = [change("L0", "k0"), change(weakest, "k1")]
    expected.append(np.mean(expected))
    binary = cells.copy()
    binary.X = cells.X / np.log(np.float32(2))
    recorded = binary.copy()
    recorded.uns["log1p"] = {"base": 2}
    for adata, given in ((cells, {}), (binary, {"base": 2}), (recorded, {}), (cells, {"base": np.e})):
        table = dbx.tl.ligrec(adata, "group", resource=PAIRS, copy=True, **given).uns["ligrec"]
        row = table.set_index(["source", "target", "ligand_complex"]).loc[("k0", "k1", "L0")]
        np.testing.assert_allclose(
            row[["ligand_logfc", "receptor_logfc", "lr_logfc"]].astype(float), expected, rtol=1e-5
        )
    table = dbx.tl.ligrec(recorded, "group", resource=PAIRS, copy=True, base=np.e).uns["ligrec"]
    assert table["ligand_logfc"].max() > 1.2 * expected[0]  # a base that is passed counts, not the recorded one
