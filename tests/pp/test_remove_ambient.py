import anndata as ad
import numpy as np
import pytest
from scipy import sparse

import dbx
from dbx.pp.remove_ambient import remove_ambient


def droplets(seed=0):
    """200 cells of two kinds that each lack genes of the other, a tenth ambient, and 400 droplets without cells."""
    rng = np.random.default_rng(seed)
    level = np.tile(np.random.default_rng(9).lognormal(0, 1, 150), (2, 1))
    level[0, :40] = level[1, 40:80] = 0
    kind = rng.integers(0, 2, 200)
    share = level / level.sum(axis=1, keepdims=True)
    profile = np.random.default_rng(9).permutation(share.mean(axis=0))  # the liquid is not the cells' mean
    native, liquid = rng.poisson(1800 * share[kind]), rng.poisson(200 * np.tile(profile, (200, 1)))
    empty = rng.poisson(50 * np.tile(profile, (400, 1)))
    x = sparse.csr_matrix(np.vstack([native + liquid, empty]).astype(np.float32))
    raw = ad.AnnData(x)
    raw.obs_names, raw.var_names = [f"d{i}" for i in range(600)], [f"g{i}" for i in range(150)]
    cells = raw[:200, ::-1].copy()
    cells.obs["kind"] = np.array(["a", "b"])[kind]
    return cells, raw, profile[::-1], native[:, ::-1]


@pytest.fixture(scope="module")
def sample():
    return droplets()


def test_raw_droplets_give_the_profile(sample):
    cells, raw, profile, native = sample
    found = remove_ambient(cells, raw, "kind", copy=True)
    np.testing.assert_allclose(found.var["ambient_profile"], profile, atol=4 * np.sqrt(profile.max() / 20_000))
    assert found.obs["ambient_fraction"].mean() == pytest.approx(0.1, abs=0.02)
    error = np.abs(found.layers["ambient_removed"].toarray() - native).mean()
    assert error < 0.6 * np.abs(cells.X.toarray() - native).mean()
    assert sparse.issparse(found.layers["ambient_removed"])
    assert "ambient_removed" not in cells.layers


def test_new_cells_run_again(sample):
    cells, raw, _, _ = sample
    reference = remove_ambient(cells, raw, "kind", copy=True)
    query, _, _, native = droplets(seed=1)
    dbx.rerun(query, reference=reference)
    assert query.obs["ambient_fraction"].mean() == pytest.approx(0.1, abs=0.02)
    error = np.abs(query.layers["ambient_removed"].toarray() - native).mean()
    assert error < 0.6 * np.abs(query.X.toarray() - native).mean()
    again = cells.copy()
    dbx.rerun(again, reference=reference)
    np.testing.assert_array_equal(again.layers["ambient_removed"].data, reference.layers["ambient_removed"].data)


def test_settings_arrive(sample):
    cells = sample[0]
    cells = ad.AnnData(np.ones(cells.shape), obs=cells.obs, var=cells.var, layers={"counts": cells.X})
    found = remove_ambient(
        cells, layer="counts", rate=0.2, concentration=1e7, integers=True, layer_added="clean", n_clusters=2, copy=True
    )
    np.testing.assert_allclose(found.obs["ambient_fraction"], 0.2, rtol=1e-3)
    values = found.layers["clean"].data
    np.testing.assert_array_equal(values, np.rint(values))


def test_wrong_input_leaves_the_data_alone(sample):
    cells, raw, _, _ = sample
    for other, settings, match in (
        (raw[:, :100], {}, r"`raw` lacks 50 of the genes \('g149' ...\)"),
        (raw[:200], {}, "`raw` has no empty droplets"),
        (raw, {"empty_below": 10}, "`raw` has no empty droplets"),
        (None, {"rate": 2.0}, "must be a fraction of the counts"),
    ):
        with pytest.raises(ValueError, match=match):
            remove_ambient(cells, other, **settings)
    wrong = cells.copy()
    wrong.X.data[3] = 0.5
    with pytest.raises(ValueError, match="needs raw counts"):
        remove_ambient(wrong)
    assert not wrong.layers
    assert not wrong.uns
    assert "ambient_fraction" not in wrong.obs
