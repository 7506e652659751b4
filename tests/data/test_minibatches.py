import anndata as ad
import dask.array as da
import numpy as np
import pytest
from scipy import sparse

from dbx.data import RowBlocks
from dbx.data.minibatches import Minibatches, narrowest, plan_epoch, split_rows


@pytest.fixture(scope="module")
def counts():
    return np.random.default_rng(0).poisson(0.4, (211, 30)).astype(np.float32)


@pytest.mark.parametrize(("n", "batch_size"), [(211, 32), (128, 128), (129, 128), (5, 128), (300, 7), (1, 4)])
def test_every_row_once_in_levelled_minibatches(n, batch_size):
    rows = np.arange(n) * 3
    plan = plan_epoch(rows, batch_size, np.random.default_rng(0))
    assert plan.rows.shape[0] == -(-n // batch_size)
    assert plan.rows.shape[1] <= batch_size
    np.testing.assert_array_equal(np.sort(plan.rows[plan.weights == 1]), rows)
    filled = plan.weights.sum(axis=1)
    assert filled.max() - filled.min() <= 1
    assert np.isin(plan.rows, rows).all()


def test_epochs_differ_and_seeds_repeat():
    rng, again = np.random.default_rng(3), np.random.default_rng(3)
    one, two = plan_epoch(np.arange(200), 32, rng), plan_epoch(np.arange(200), 32, rng)
    assert (one.rows != two.rows).mean() > 0.9
    np.testing.assert_array_equal(one.rows, plan_epoch(np.arange(200), 32, again).rows)


def test_shuffling_moves_rows_everywhere():
    """Neighbours in the data end up in one minibatch no more often than chance: 31 of 199, standard deviation 0.025."""
    plan = plan_epoch(np.arange(200), 32, np.random.default_rng(0))
    batch = np.empty(200)
    batch[plan.rows[plan.weights == 1]] = np.nonzero(plan.weights == 1)[0]
    assert abs((batch[1:] == batch[:-1]).mean() - 0.14) < 0.08


def test_split_is_a_partition():
    train, held_out = split_rows(100, 0.1, np.random.default_rng(0))
    assert len(held_out) == 10
    np.testing.assert_array_equal(np.sort(np.concatenate([train, held_out])), np.arange(100))


def backed(x, tmp_path):
    ad.AnnData(sparse.csr_matrix(x)).write(tmp_path / "x.h5ad")
    return ad.read_h5ad(tmp_path / "x.h5ad", backed="r").X


KINDS = {
    "dense": lambda x, _: x,
    "csr": lambda x, _: sparse.csr_matrix(x),
    "csc": lambda x, _: sparse.csc_matrix(x),
    "int": lambda x, _: x.astype(np.int64),
    "dask": lambda x, _: da.from_array(x, chunks=(50, 30)),
    "backed": backed,
}


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_and_resident_serve_the_same_minibatches(counts, kind, tmp_path, monkeypatch):
    monkeypatch.setattr("dbx.data.minibatches.CHUNK_BYTES", 32 * 30 * 3)
    x, codes = KINDS[kind](counts, tmp_path), np.arange(211, dtype=np.int32)
    plan = plan_epoch(np.arange(211), 32, np.random.default_rng(0))
    whole = Minibatches({"x": RowBlocks(x), "codes": codes})
    parts = Minibatches({"x": RowBlocks(x), "codes": codes}, budget=0)
    assert whole.resident
    assert not parts.resident
    assert [chunk.steps for chunk in parts.epoch(plan)] == [slice(0, 3), slice(3, 6), slice(6, 7)]
    for data in (whole, parts):
        for chunk in data.epoch(plan):
            np.testing.assert_array_equal(np.asarray(chunk.data["x"])[chunk.rows], counts[plan.rows[chunk.steps]])
            np.testing.assert_array_equal(np.asarray(chunk.data["codes"])[chunk.rows], plan.rows[chunk.steps])
            np.testing.assert_array_equal(chunk.weights, plan.weights[chunk.steps])


@pytest.mark.parametrize(
    ("top", "dtype"),
    [(255.0, "uint8"), (256.0, "uint16"), (65535.0, "uint16"), (65536.0, "float32"), (-1.0, "float32")],
)
@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_matrix])
def test_counts_lie_in_the_narrowest_type_that_holds_them(counts, top, dtype, wrap):
    x = counts.copy()
    x[7, 3] = top
    assert narrowest(RowBlocks(wrap(x))) == dtype
    np.testing.assert_array_equal(np.asarray(Minibatches({"x": RowBlocks(wrap(x))})._data["x"]), x)


def test_fractions_stay_floats(counts):
    assert narrowest(RowBlocks(counts / 2)) == np.float32
