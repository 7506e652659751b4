"""The embedded data are the published ones, whole, and readable by every anndata."""

from importlib import resources

import numpy as np
import pandas as pd
import pytest

from dbx.datasets import mixology


@pytest.fixture(scope="module")
def adata():
    return mixology()


def test_cells_by_protocol_and_line_as_published(adata):
    """Singlets of each line in the authors' annotation (sc_celseq2.metadata.csv, sc_dropseq.metadata.csv)."""
    singlet = adata.obs["demuxlet_cls"] == "SNG"
    table = pd.crosstab(adata.obs["batch"][singlet], adata.obs["cell_line"][singlet])
    np.testing.assert_array_equal(table.loc["CEL-seq2", ["H1975", "H2228", "HCC827"]], [103, 67, 70])
    np.testing.assert_array_equal(table.loc["Drop-seq", ["H1975", "H2228", "HCC827"]], [79, 65, 66])
    assert (~singlet).sum() == 49
    assert (adata.obs["cell_line"] != adata.obs["cell_line_demuxlet"])[singlet].sum() == 0


def test_counts(adata):
    """Whole numbers, their sum as when the file was made; a cell's genes never exceed its total before the cut."""
    x = adata.X
    assert x.format == "csr"
    assert x.dtype == np.float32
    assert x.has_canonical_format
    assert (x.data > 0).all()
    assert (x.data % 1 == 0).all()
    assert x.sum(dtype=np.float64) == 9_140_040
    assert (adata.obs["total_counts_all_genes"] >= x.sum(axis=1).A1).all()


@pytest.mark.parametrize(("gene", "line"), [("EGFR", "HCC827"), ("ALK", "H2228")])
def test_known_markers_of_the_lines(adata, gene, line):
    """EGFR is amplified in HCC827; H2228 carries the EML4-ALK fusion."""
    singlet = (adata.obs["demuxlet_cls"] == "SNG").to_numpy()
    share = adata[:, gene].X.toarray().ravel() / adata.obs["total_counts_all_genes"].to_numpy()
    by_line = pd.Series(share[singlet]).groupby(adata.obs["cell_line"].to_numpy()[singlet]).mean()
    assert by_line[line] > 3 * by_line.drop(line).max()


def test_each_call_gives_its_own_object(adata):
    other = mixology()
    other.X.data[:] = 0
    assert adata.X.data.min() > 0


def test_file_is_small_and_its_licence_lies_beside_it():
    folder = resources.files("dbx.datasets") / "data"
    assert len((folder / "mixology.h5ad").read_bytes()) < 2.5e6
    assert "Copyright (c) 2018 Luyi Tian" in (folder / "LICENSES.md").read_text()
