"""pl.copy_number: what is drawn, beside the layers."""

import numpy as np
import pytest

import dbx


def test_rows_are_cells_by_group_and_columns_genes_by_chromosome(rng):
    data = dbx.datasets.simulate(60, 80, 2, 1, seed=0)
    dbx.pp.normalize_total(data)
    dbx.pp.log1p(data)
    chromosomes = rng.permutation(np.repeat(["chr1", "chr2", "chrX"], [30, 40, 10]))
    data.var["chromosome"], data.var["start"] = chromosomes, rng.permutation(80)
    dbx.tl.copy_number(data, window=5)
    ax = dbx.pl.copy_number(data, "group", show=False)
    drawn = np.asarray(ax.images[0].get_array())
    genes = data.var[data.var["chromosome"] != "chrX"]
    first = genes["chromosome"].iloc[0]
    genes = genes.assign(later=genes["chromosome"] != first).sort_values(["later", "start"])
    cells = data.obs.sort_values(["group", "cnv_score"], kind="stable")
    expected = data[cells.index, genes.index].layers["copy_number"]
    np.testing.assert_allclose(drawn, expected)
    assert {label.get_text() for label in ax.get_xticklabels()} == {"1", "2"}
    ax = dbx.pl.copy_number(data, states=True, show=False)
    assert set(np.unique(ax.images[0].get_array())) <= {-1, 0, 1}
    data.obs["none"] = None
    with pytest.raises(ValueError, match="No cell has a group"):
        dbx.pl.copy_number(data, "none", show=False)
