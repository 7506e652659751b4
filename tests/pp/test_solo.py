import numpy as np
import pytest

import dbx
from dbx.pp.solo import solo

QUICK = {"n_hidden": 8, "n_latent": 3, "max_epochs": 2, "classifier_epochs": 2, "n_draws": 1}


@pytest.fixture(scope="module")
def cells():
    return dbx.datasets.simulate(150, 60, 3, 2, seed=0, library_size=200)


def test_writes_what_it_says_and_runs_again(cells, tmp_path):
    found = solo(cells, batch_key="batch", expected_doublet_rate=0.1, copy=True, **QUICK)
    assert "solo_score" not in cells.obs
    assert found.obs["solo_score"].mean() == pytest.approx(0.1, abs=0.005)
    assert found.obs["predicted_doublet"].dtype == bool
    assert found.obs["predicted_doublet"].sum() == pytest.approx(15, abs=1)
    assert found.uns["solo"]["params"] == {"expected_doublet_rate": 0.1, "batch_key": "batch"}
    threshold = float(found.uns["solo"]["summary"]["threshold"])
    np.testing.assert_array_equal(found.obs["predicted_doublet"], found.obs["solo_score"] >= threshold)
    new = cells.copy()
    del new.obs["batch"]
    dbx.rerun(new, reference=found)
    np.testing.assert_array_equal(new.obs["solo_score"], found.obs["solo_score"])


def test_wrong_input_leaves_the_data_alone(cells):
    wrong = cells.copy()
    wrong.X.data[2] = -1
    with pytest.raises(ValueError, match="negative values"):
        solo(wrong, **QUICK)
    with pytest.raises(ValueError, match="must be a fraction"):
        solo(wrong, expected_doublet_rate=0)
    assert "solo_score" not in wrong.obs
    assert set(wrong.uns) == {"simulate"}
