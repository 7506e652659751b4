"""Labels of a reference that has none, or few."""

import numpy as np
import pandas as pd
import pytest

import dbx

NONE = {
    "categories, unused": pd.Categorical([None] * 150, categories=["a", "b"]),
    "no categories": pd.Categorical([None] * 150),
    "NaN": np.full(150, np.nan),
    "None": np.full(150, None, dtype=object),
    "nullable text": pd.array([pd.NA] * 150, dtype="string"),
}


@pytest.fixture
def placed(analysed, counts):
    query = counts[:20].copy()
    query.obs_names = [f"new {name}" for name in query.obs_names]
    dbx.rerun(query, analysed, steps="neighbors")
    return query


@pytest.mark.parametrize("labels", NONE.values(), ids=NONE)
def test_a_column_without_any_label_is_named(placed, analysed, labels):
    analysed.obs["cell_type"] = labels
    with pytest.raises(ValueError, match=r"reference.obs\['cell_type'\] has no label, all 150 values are missing"):
        dbx.tl.transfer_labels(placed, analysed, "cell_type")
    assert "cell_type" not in placed.obs


def test_one_label_is_enough(placed, analysed):
    analysed.obs["cell_type"] = pd.Categorical([None] * 149 + ["a"], categories=["a", "b"])
    dbx.tl.transfer_labels(placed, analysed, "cell_type")
    near = placed.obsm["reference_connectivities"][:, 149].toarray().ravel() > 0
    np.testing.assert_array_equal(placed.obs["cell_type"].notna(), near)
    np.testing.assert_array_equal(placed.obs["cell_type_probability"], near.astype(float))
