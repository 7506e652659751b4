"""Slots are read in words and written whole or not at all."""

import anndata as ad
import mudata as md
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from dbx.ops.values import Codes, Graph
from dbx.program.slots import slots, stored, writing
from dbx.program.slots.slots import Slot, SlotError


@pytest.fixture
def adata():
    adata = ad.AnnData(np.arange(12, dtype=np.float32).reshape(4, 3))
    adata.layers["counts"] = adata.X * 2
    adata.obs["batch"] = ["b", "a", "b", "a"]
    adata.uns["pca"] = {"params": {"zero_center": True}}
    return adata


@pytest.mark.parametrize(
    "address",
    ["X", "raw/X", "layers/counts", "obsm/X_pca", "obs/batch", "uns/pca/params/x", "varm/de/padj", "mod/rna/X"],
)
def test_an_address_survives_parsing(address):
    assert str(Slot.parse(address)) == address


@pytest.mark.parametrize("address", ["", "x", "obsm", "layer/counts", "raw", "mod/rna", "X/y/z/"])
def test_what_is_no_address_is_refused(address):
    if address == "X/y/z/":
        assert Slot.parse(address).container == "X"
        return
    with pytest.raises(ValueError, match="is not a valid slot"):
        Slot.parse(address)


def test_a_missing_slot_names_what_is_there_and_the_call_that_makes_it(adata):
    with pytest.raises(SlotError, match=r"adata.obsm\['X_pca'\] is missing .*empty.*dbx.pp.pca\(adata\)"):
        slots.read(adata, Slot.parse("obsm/X_pca"))
    with pytest.raises(SlotError, match=r"adata.layers\['raw'\] is missing .*'counts'"):
        slots.read(adata, Slot.parse("layers/raw"))


def test_values_are_stored_as_anndata_keeps_them(adata):
    graph = Graph(np.array([[1], [2], [3], [0]], np.int32), np.full((4, 1), 0.5), np.arange(4), 4, symmetric=True)
    writing.assign(
        adata,
        {
            Slot.parse("obs/leiden"): Codes(np.array([1, 0, 1, -1]), ("0", "1")),
            Slot.parse("obsp/connectivities"): graph,
            Slot.parse("varm/de/padj"): np.array([0.1, 0.2, 0.3]),
            Slot.parse("varm/de/stat"): np.array([1.0, 2.0, 3.0]),
            Slot.parse("uns/pca/variance"): np.array([2.0, 1.0]),
        },
    )
    assert adata.obs["leiden"].tolist()[:3] == ["1", "0", "1"]
    assert pd.isna(adata.obs["leiden"].iloc[3])
    ring = np.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]]) / 2
    np.testing.assert_array_equal(adata.obsp["connectivities"].toarray(), ring)
    assert list(adata.varm["de"].columns) == ["padj", "stat"]
    assert adata.uns["pca"]["params"] == {"zero_center": True}
    np.testing.assert_array_equal(adata.uns["pca"]["variance"], [2.0, 1.0])


def test_a_failing_write_leaves_every_slot_as_it_was(adata):
    before = adata.copy()
    with pytest.raises(ValueError, match="shape|length|aligned|dim"):
        writing.assign(
            adata,
            {
                Slot.parse("X"): adata.X + 1,
                Slot.parse("obs/new"): np.arange(4),
                Slot.parse("uns/pca/variance"): np.arange(3),
                Slot.parse("obsm/bad"): np.zeros((7, 2)),
            },
        )
    np.testing.assert_array_equal(adata.X, before.X)
    assert "new" not in adata.obs
    assert "variance" not in adata.uns["pca"]
    assert "bad" not in adata.obsm


def test_backed_data_are_for_reading(adata, tmp_path):
    adata.write(tmp_path / "a.h5ad")
    backed = ad.read_h5ad(tmp_path / "a.h5ad", backed="r")
    with pytest.raises(NotImplementedError, match="to_memory"):
        writing.assign(backed, {Slot.parse("X"): np.zeros((4, 3))})


def test_writing_nested_uns_of_a_view_does_not_reach_its_parent(adata):
    view = adata[:2]
    copied = view.copy()
    writing.assign(copied, {Slot.parse("uns/pca/params/zero_center"): False})
    assert adata.uns["pca"]["params"]["zero_center"] is True


def test_one_modality_of_a_mudata(adata):
    mdata = md.MuData({"rna": adata, "prot": ad.AnnData(np.ones((4, 2), np.float32))})
    writing.assign(mdata, {Slot.parse("obsm/X_pca", "rna"): np.ones((4, 2))})
    assert "X_pca" in mdata.mod["rna"].obsm
    assert "X_pca" not in mdata.mod["prot"].obsm
    with pytest.raises(SlotError, match="no modality 'atac'.*'rna'"):
        slots.read(mdata, Slot.parse("X", "atac"))
    with pytest.raises(ValueError, match="MuData has no X; name the modality"):
        slots.read(mdata, Slot.parse("X"))
    with pytest.raises(ValueError, match="not a MuData"):
        slots.read(adata, Slot.parse("X", "rna"))


def test_codes_follow_stored_levels():
    column = pd.Series(pd.Categorical(["b", "c", "a"], categories=["c", "b", "a"]))
    assert stored.as_codes(column).levels == ("c", "b", "a")
    np.testing.assert_array_equal(stored.as_codes(column, ("a", "b")).codes, [1, -1, 0])
    np.testing.assert_array_equal(stored.as_codes(pd.Series([2, 1, 2])).codes, [1, 0, 1])


def test_graphs_pad_and_come_back_as_they_were():
    rng = np.random.default_rng(0)
    matrix = sparse.random(30, 20, density=0.2, random_state=rng, format="csr")
    graph = Graph.from_csr(matrix, rows=np.full(30, -1))
    np.testing.assert_array_equal(graph.to_csr().toarray(), matrix.toarray())


@pytest.mark.parametrize("frame", ["obs", "var"])
@pytest.mark.parametrize("mod", [None, "rna"])
def test_a_column_that_is_there_twice_is_refused_by_name(adata, frame, mod):
    table = getattr(adata, frame).assign(twice=1, once=2)
    setattr(adata, frame, pd.concat([table, table[["twice"]]], axis=1))
    data = adata if mod is None else md.MuData({mod: adata})
    owner = f"adata.{frame}" if mod is None else rf"mdata\['rna'\].{frame}"
    with pytest.raises(ValueError, match=rf"{owner} has 2 columns named 'twice'.*{owner}.loc.*duplicated"):
        slots.read(data, Slot.parse(f"{frame}/twice", mod))
    np.testing.assert_array_equal(slots.read(data, Slot.parse(f"{frame}/once", mod)), 2)


def test_keys_with_a_slash_of_other_tools_are_read(adata):
    adata.obsm["T/NK"] = np.ones((4, 2))
    adata.uns["markers T/NK"] = {"params": {"groupby": "batch"}}
    np.testing.assert_array_equal(slots.read(adata, Slot.parse("obsm/T/NK")), 1)
    assert slots.read(adata, Slot.parse("uns/markers T/NK"))["params"] == {"groupby": "batch"}
