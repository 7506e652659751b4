"""Ligand-receptor pairs found among the genes of the data."""

import pandas as pd
import pytest

from dbx._warnings import DbxWarning
from dbx.datasets import cellphonedb
from dbx.tl._pairs import pairs_among

TABLE = pd.DataFrame({"ligand": ["A", "A", "B_C", "X"], "receptor": ["D", "E_F", "D", "D"]})
GENES = pd.Index(["F", "E", "D", "C", "B", "A"])


def test_complexes_by_their_subunits():
    pairs = pairs_among(TABLE, GENES)
    assert pairs.ligands == ("A", "A", "B_C")
    assert pairs.receptors == ("D", "E_F", "D")
    assert pairs.ligand_columns == ((5,), (5,), (4, 3))
    assert pairs.receptor_columns == ((2,), (1, 0), (2,))
    few = pairs.among(pairs.columns)
    assert few.receptor_columns == ((2,), (1, 0), (2,))


def test_all_subunits_as_pairs_of_their_own():
    pairs = pairs_among(TABLE, GENES, complex_policy="all")
    names = list(zip(pairs.ligands, pairs.receptors, strict=True))
    assert names == [("A", "D"), ("A", "E"), ("A", "F"), ("B", "D"), ("C", "D")]


def test_a_gene_may_have_an_underscore():
    pairs = pairs_among(pd.DataFrame({"ligand": ["A_1"], "receptor": ["B"]}), pd.Index(["A_1", "B"]))
    assert pairs.ligand_columns == ((0,),)


def test_only_the_genes_of_pairs_are_read():
    pairs = pairs_among(TABLE[:1], GENES)
    assert list(pairs.columns) == [2, 5]
    assert pairs.among(pairs.columns).ligand_columns == ((1,),)


def test_mouse_genes_by_orthologues():
    names = cellphonedb()[["ligand_mouse", "receptor_mouse"]].to_numpy().ravel()
    pairs = pairs_among("cellphonedb", pd.Index(sorted({gene for name in names for gene in name.split("_") if gene})))
    assert len(pairs) == 1147
    assert {("Cxcl12", "Cxcr4"), ("Il6", "Il6ra_Il6st")} <= set(zip(pairs.ligands, pairs.receptors, strict=True))


def test_columns_of_other_tools():
    squidpy = TABLE.rename(columns={"ligand": "source", "receptor": "target"})
    assert pairs_among(squidpy, GENES) == pairs_among(TABLE, GENES)


@pytest.mark.parametrize(("name", "sep"), [("pairs.csv", ","), ("pairs.tsv.gz", "\t")])
def test_a_file_of_the_users(tmp_path, name, sep):
    """With OmniPath's columns, where accessions stand before the symbols."""
    omnipath = TABLE.rename(columns={"ligand": "source_genesymbol", "receptor": "target_genesymbol"})
    omnipath.insert(0, "source", "P1")
    omnipath.insert(1, "target", "P2")
    omnipath.to_csv(tmp_path / name, sep=sep, index=False)
    assert pairs_among(tmp_path / name, GENES) == pairs_among(str(tmp_path / name), GENES) == pairs_among(TABLE, GENES)


def test_few_genes_are_warned_of():
    genes = pd.Index(["Cxcl12", "Cxcr4"])
    with pytest.warns(DbxWarning, match="same species"):
        assert len(pairs_among("cellphonedb", genes)) == 1


@pytest.mark.parametrize(
    ("resource", "error", "match"),
    [
        ("cellchat", ValueError, "cellphonedb"),
        ("consensus", ValueError, r"licences .* a file of your own"),
        ("nowhere.csv", FileNotFoundError, "nowhere.csv"),
        (["A"], TypeError, "DataFrame"),
        (TABLE.rename(columns={"ligand": "from"}), ValueError, "'from', 'receptor'"),
        (TABLE.apply(lambda names: names.str.lower()), ValueError, "upper and lower case"),
        (pd.DataFrame({"ligand": ["Q"], "receptor": ["R"]}), ValueError, "0 of its pairs"),
    ],
)
def test_wrong_resources(resource, error, match):
    with pytest.raises(error, match=match):
        pairs_among(resource, GENES)


def test_unknown_policy():
    with pytest.raises(ValueError, match="complex_policy"):
        pairs_among(TABLE, GENES, complex_policy="any")
