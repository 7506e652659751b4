"""Activity of regulators: beside sums by hand, for new cells, in ranks."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import dbx

EDGES = pd.DataFrame(
    [("b", "g1", 3.0, 1), ("b", "g2", 2.0, -1), ("a", "g3", 1.0, 1), ("b", "g3", 0.1, 1), ("a", "b", 0.1, 0)],
    columns=["TF", "target", "importance", "sign"],
)


@pytest.fixture
def cells(rng):
    x = rng.gamma(2.0, 1.0, (30, 7)).astype(np.float32)
    return ad.AnnData(x, var=pd.DataFrame(index=["a", "b", "g1", "g2", "g3", "g4", "g5"]), uns={"grn": EDGES.copy()})


def test_signed_mean_of_standardised_targets_for_new_cells_too(cells):
    reference, query = cells[:20].copy(), cells[20:].copy()
    del query.uns
    dbx.tl.grn_activity(reference, n_targets=2)
    assert list(reference.uns["grn_activity"]["TF"]) == ["a", "b"]
    dbx.rerun(query, reference)
    mean, deviation = cells.X[:20].mean(axis=0), cells.X[:20].std(axis=0, ddof=1)
    z = (cells.X - mean) / deviation
    expected = np.column_stack([z[:, 4], (z[:, 2] - z[:, 3]) / 2])
    np.testing.assert_allclose(reference.obsm["X_grn_activity"], expected[:20], atol=1e-5)
    np.testing.assert_allclose(query.obsm["X_grn_activity"], expected[20:], atol=1e-5)


def test_area_under_the_recovery_curve(cells):
    cells.X[0] = [0, 0, 5, 4, 6, 3, 0]
    cells.X[1] = [9, 8, 0, 0, 0, 0, 7]
    dbx.tl.grn_activity(cells, method="rank", top=4 / 7)
    found = cells.obsm["X_grn_activity"]
    # heights 4, 3, 2, 1 of the four first genes: g3, g1, g2, g4; b activates g1 and g3, so that 4 + 3 is the most
    np.testing.assert_allclose(found[0], [1, 1])
    np.testing.assert_allclose(found[1], [0, 0])  # not expressed
    cells.X[0, 5] = 7
    dbx.tl.grn_activity(cells, method="rank", top=4 / 7)
    np.testing.assert_allclose(cells.obsm["X_grn_activity"][0], [3 / 4, (3 + 2) / 7], rtol=1e-6)


def test_the_network_of_one_group(cells):
    cells.uns["grn"]["group"] = ["x", "x", "y", "y", "y"]
    with pytest.raises(ValueError, match="has a network for each of 'x', 'y': choose one"):
        dbx.tl.grn_activity(cells)
    dbx.tl.grn_activity(cells, group="x")
    assert list(cells.uns["grn_activity"]["TF"]) == ["b"]
    with pytest.raises(ValueError, match="group must be one of 'x', 'y'"):
        dbx.tl.grn_activity(cells, group="z", key_added="other")
    assert "other" not in cells.uns


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda a: a.uns.pop("grn"), KeyError, "dbx.tl.grn"),
        (lambda a: a.uns.update(grn=EDGES.drop(columns="sign")), KeyError, "lacks 'sign'"),
        (
            lambda a: a.uns.update(grn=EDGES.assign(target=["x", "g1", "y", "g2", "b"])),
            ValueError,
            "2 targets .* not among the genes",
        ),
        (lambda a: a.uns.update(grn=EDGES.assign(target="x")), ValueError, "None of the genes of .* is in var_names"),
        (lambda a: a.uns.update(grn=EDGES.assign(sign=0)), ValueError, "no edge with a sign"),
    ],
)
def test_wrong_input_in_words(cells, change, error, words):
    change(cells)
    with pytest.raises(error, match=words):
        dbx.tl.grn_activity(cells)
    assert "X_grn_activity" not in cells.obsm
