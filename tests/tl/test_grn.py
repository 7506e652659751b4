"""Networks as tables: names, groups, stability; what is refused."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx


@pytest.fixture
def cells():
    """In the first group t1 activates g1 and t2 represses g2; in the second t2 activates g1."""
    rng = np.random.default_rng(0)
    x = rng.normal(5, 1, (200, 6))
    first = np.arange(200) < 120
    x[:, 2] += 3 * np.where(first, x[:, 0], x[:, 1])
    x[:, 3] -= 3 * np.where(first, x[:, 1], 0)
    names = ["t1", "t2", "g1", "g2", "g3", "g4"]
    adata = ad.AnnData(x.astype(np.float32), var=pd.DataFrame(index=names))
    adata.obs["state"] = pd.Categorical(np.where(first, "a", "b"))
    return adata


@pytest.mark.parametrize("method", ["trees", "correlation", "partial", "gatv2"])
def test_a_network_for_each_group(cells, method):
    dbx.tl.grn(cells, tf_names=["t1", "t2"], groupby="state", method=method)
    table = cells.uns["grn"]
    assert list(table) == ["TF", "target", "importance", "sign", "rank", "stability", "pvalue", "group"]
    assert not (table["TF"] == table["target"]).any()
    a, b = (table[table["group"] == group] for group in "ab")
    assert a["importance"].is_monotonic_decreasing
    assert list(a["rank"]) == list(range(1, len(a) + 1))
    assert set(zip(a["TF"][:2], a["target"][:2], a["sign"][:2], strict=True)) == {("t1", "g1", 1), ("t2", "g2", -1)}
    assert tuple(b.iloc[0][["TF", "target", "sign"]]) == ("t2", "g1", 1)


def test_a_group_alone_gives_its_network(cells):
    dbx.tl.grn(cells, tf_names=["t1", "t2"], groupby="state", n_estimators=10)
    alone = cells[cells.obs["state"] == "b"].copy()
    del alone.uns
    dbx.tl.grn(alone, tf_names=["t1", "t2"], n_estimators=10)
    table = cells.uns["grn"]
    expected = table[table["group"] == "b"].drop(columns="group").reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.uns["grn"], expected)


def test_seeds_and_permutations(cells):
    dbx.tl.grn(
        cells, tf_names=["t1", "t2"], target_genes=["g3", "g1"], method="correlation", n_seeds=5, n_perms=20, top=1
    )
    (edge,) = cells.uns["grn"].to_dict("records")
    assert (edge["TF"], edge["target"], edge["stability"]) == ("t1", "g1", 1)
    assert edge["pvalue"] == np.float32(1 / 41)
    assert cells.uns["grn_jaccard"] == [1]


def test_a_query_keeps_no_network_of_its_own(cells):
    dbx.tl.grn(cells, tf_names=["t1", "t2"], method="correlation")
    query = cells[:100].copy()
    del query.uns
    dbx.rerun(query, cells)
    assert "grn" not in query.uns
    refitted = dbx.rerun(cells[:100].copy(), refit=True, copy=True)
    assert not refitted.uns["grn"].equals(cells.uns["grn"])


def test_genes_of_the_same_value_everywhere(cells):
    cells.X[:, [1, 4]] = 2
    with pytest.warns(dbx.DbxWarning, match="2 genes have the same value in every cell") as warned:
        dbx.tl.grn(cells, tf_names=["t1", "t2"], method="correlation")
    assert warned[0].filename == __file__
    assert set(cells.uns["grn"]["TF"]) == {"t1"}


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        ({}, {"tf_names": ["x"]}, "None of the genes of tf_names is in var_names"),
        ({}, {"tf_names": []}, "an empty list"),
        ({}, {"tf_names": ["t1"], "target_genes": ["t1"]}, "The only target is the only transcription factor, 't1'"),
        ({"var_names": list("aabcde")}, {"tf_names": ["a"]}, "Gene names are not unique"),
        ({"X": np.ones((200, 6), np.float32)}, {"tf_names": ["t1"]}, "the same value in every cell"),
        ({"obs": {"state": ["a"] * 195 + ["b"] * 5}}, {"tf_names": ["t1"], "groupby": "state"}, "fewer in 'b'"),
        ({}, {"tf_names": ["t1"], "method": "genie3"}, "method must be one of"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*look like raw counts")
def test_wrong_input_in_words(cells, change, settings, words):
    for name, value in change.items():
        if name == "obs":
            cells.obs = cells.obs.assign(**value)
        else:
            setattr(cells, name, value)
    with pytest.raises(ValueError, match=words):
        dbx.tl.grn(cells, **settings)
    assert not cells.uns


def test_absent_transcription_factors_and_counts_are_warned_of(cells):
    with pytest.warns(dbx.DbxWarning, match="1 of 2 genes of tf_names are not in var_names and are ignored: 'x'"):
        dbx.tl.grn(cells, tf_names=["t1", "x"], method="correlation")
    cells.X = np.random.default_rng(0).poisson(3.0, cells.shape).astype(np.float32)
    with pytest.warns(dbx.DbxWarning, match="adata.X look like raw counts, whose totals"):
        dbx.tl.grn(cells, tf_names=["t1"], method="correlation", key_added="other")
