"""The pairs of CellPhoneDB 2 are those of its release."""

from importlib import resources

from dbx.datasets import cellphonedb


def test_pairs_of_the_release():
    """interaction_input.csv of CellPhoneDB 2.1.7 has 1,396 rows, of which one is there twice."""
    pairs = cellphonedb()
    assert len(pairs) == 1395
    assert not pairs.duplicated(["ligand", "receptor"]).any()
    assert not (pairs[["ligand", "receptor"]] == "").any(axis=None)


def test_the_receptor_comes_second():
    """Known pairs, of which CellPhoneDB lists some in the other order."""
    pairs = set(zip(cellphonedb()["ligand"], cellphonedb()["receptor"], strict=True))
    assert {("INHBA_INHBB", "ACVR1B_ACVR2A"), ("CD40LG", "CD40"), ("IL6", "IL6R_IL6ST"), ("CXCL12", "CXCR4")} <= pairs
    assert ("CXCR4", "CXCL12") not in pairs


def test_mouse_orthologues():
    table = cellphonedb()
    mouse = table[table["ligand_mouse"] != ""]
    assert len(mouse) == 1147
    assert ((table["ligand_mouse"] == "") == (table["receptor_mouse"] == "")).all()
    named = dict(zip(mouse["ligand"], mouse["ligand_mouse"], strict=True))
    assert (named["IL34"], named["KITLG"], named["FASLG"]) == ("Il34", "Kitl", "Fasl")  # two are not named alike


def test_the_licence_is_beside_the_file():
    folder = resources.files("dbx.datasets") / "data"
    assert "Copyright (c) 2018 Teichmann Group" in (folder / "LICENSES.md").read_text()
