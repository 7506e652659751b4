"""The plot of sensitivities: bars and dots are the numbers of the table."""

import numpy as np
import pandas as pd
import pytest

import dbx
from dbx.pl._palette import DOWN, UP
from dbx.pl.sensitivity import sensitivity


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(30)]
    parts = []
    for column in ("0", "1"):
        for group in ("T cells", "B cells"):
            gradient, sd = rng.normal(size=30), rng.uniform(0.5, 2, 30)
            part = pd.DataFrame({"column": column, "group": group, "gene": genes, "gradient": gradient})
            parts.append(part.assign(magnitude=np.abs(gradient) + 0.1, sd=sd, effect=gradient * sd))
    table = pd.concat(parts, ignore_index=True)
    table["column"], table["group"] = pd.Categorical(table["column"]), pd.Categorical(table["group"])
    table.attrs["output"] = "obsm/X_pca"
    return table


def rows(table, column, group):
    return table[(table["column"] == column) & (table["group"] == group)].set_index("gene")


def words(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_bars_are_the_strongest_genes(table):
    ax = sensitivity(table, column=1, group="B cells", n_genes=7, show=False)
    wanted = rows(table, "1", "B cells")["effect"]
    wanted = wanted.loc[wanted.abs().sort_values(ascending=False).index[:7]]
    assert words(ax.yaxis) == list(wanted.index)
    bars = sorted(ax.patches, key=lambda bar: -bar.get_y())
    np.testing.assert_allclose([bar.get_width() for bar in bars], wanted)
    from matplotlib.colors import to_hex

    assert [to_hex(bar.get_facecolor()) for bar in bars] == [UP if v > 0 else DOWN for v in wanted]
    assert ax.get_title() == "X_pca 1, B cells"
    assert ax.get_xlabel() == "effect of a standard deviation of the gene"


def test_other_values_order_otherwise(table):
    ax = sensitivity(table, column="0", group="T cells", values="magnitude", n_genes=3, show=False)
    wanted = rows(table, "0", "T cells")["magnitude"].sort_values(ascending=False)[:3]
    assert words(ax.yaxis) == list(wanted.index)
    assert ax.get_xlabel() == "mean absolute gradient"


def test_dots_are_the_strongest_of_each_group(table):
    ax = sensitivity(table, column=0, n_genes=3, show=False)
    assert words(ax.xaxis) == ["B cells", "T cells"]
    best = [rows(table, "0", g)["effect"].abs().sort_values(ascending=False).index[:3] for g in ("B cells", "T cells")]
    genes = words(ax.yaxis)
    assert set(genes) == set(best[0]) | set(best[1])
    points = ax.collections[0]
    (x, y), area = np.asarray(points.get_offsets()).T.astype(int), points.get_sizes()
    groups = np.array(["B cells", "T cells"])[x]
    effect = np.array(
        [rows(table, "0", g).loc[genes[len(genes) - 1 - row], "effect"] for g, row in zip(groups, y, strict=True)]
    )
    np.testing.assert_allclose(area / area.max(), np.abs(effect) / np.abs(effect).max())
    assert ax.get_title() == "X_pca 0"


def test_what_was_kept_in_the_data_is_drawn(analysed):
    table = dbx.sensitivity(analysed, "obsm/X_pca", column=[0, 1], key_added="drivers")
    ax = dbx.pl.sensitivity(analysed, "drivers", column=0, n_genes=5, show=False)
    assert words(ax.yaxis) == list(table["gene"][:5])
    assert ax.get_title() == "X_pca 0"
    assert words(dbx.pl.sensitivity(analysed, "drivers", show=False).xaxis) == ["0", "1"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({}, "several columns and several groups"),
        ({"column": 7}, "column must be one of '0', '1'.*; got '7'"),
        ({"group": "NK"}, "group must be one of 'T cells', 'B cells'; got 'NK'"),
        ({"values": "p-value"}, "values must be one of 'effect', 'gradient', 'magnitude'; got 'p-value'"),
        ({"column": 0, "n_genes": 0}, "n_genes must be at least 1; got 0"),
    ],
)
def test_wrong_arguments_are_said(table, wrong, message):
    with pytest.raises(ValueError, match=message):
        sensitivity(table, show=False, **wrong)


def test_nothing_kept_is_said(analysed):
    with pytest.raises(KeyError, match=r"adata\.uns\['sensitivity'\] is missing"):
        dbx.pl.sensitivity(analysed)
