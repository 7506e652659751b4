"""Dots of ligand-receptor pairs: their places, sizes and colours."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

import dbx
from dbx.program.slots.slots import SlotError

TABLE = pd.DataFrame(
    [("a", "b", "L1", "R1", 1e-12, 3.0), ("b", "a", "L2", "R2_S2", 1e-4, 2.0), ("a", "b", "L2", "R2_S2", 0.5, -1.0)],
    columns=["source", "target", "ligand_complex", "receptor_complex", "padj_specific", "score"],
).assign(lr_means=1.0, cellphone_pvals=0.5)


@pytest.fixture
def cells():
    yield ad.AnnData(np.zeros((2, 1), np.float32), uns={"ligrec": TABLE})
    plt.close("all")


def test_dots_are_the_rows(cells):
    ax = dbx.pl.ligrec(cells, show=False)
    dots = ax.collections[0]
    assert [text.get_text() for text in ax.get_yticklabels()] == ["L1 → R1", "L2 → R2_S2"]
    assert [text.get_text() for text in ax.get_xticklabels()] == ["a → b", "b → a"]
    np.testing.assert_array_equal(dots.get_offsets(), [[0, 0], [1, 1], [0, 1]])
    np.testing.assert_array_equal(dots.get_array(), TABLE["score"])
    np.testing.assert_allclose((dots.get_sizes() - 2) / 110 * 10, [10, 4, -np.log10(0.5)])


def test_some_groups_and_pairs(cells):
    assert len(dbx.pl.ligrec(cells, n_pairs=1, show=False).collections[0].get_offsets()) == 1
    assert len(dbx.pl.ligrec(cells, source_groups="a", show=False).collections[0].get_offsets()) == 2
    with pytest.raises(ValueError, match="target_groups: 'c' is not in the table, which has 'b', 'a'"):
        dbx.pl.ligrec(cells, target_groups=["c"], show=False)
    with pytest.raises(SlotError, match=r"run dbx\.tl\.ligrec first"):
        dbx.pl.ligrec(cells, key="no", show=False)
