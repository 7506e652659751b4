import anndata as ad
import dask.array as da
import numpy as np
import pytest
import zarr
from scipy import sparse

from dbx.data import RowBlocks
from dbx.data.minibatches import RUNS, Minibatches, narrowest, plan_epoch, split_rows


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


@pytest.mark.parametrize(("n", "n_parts"), [(100_000, 4), (10_001, 4), (1027, 3), (300, 2), (40, 5)])
def test_parts_hold_every_row_once_and_whole_runs(n, n_parts):
    rows = np.arange(n) * 3
    plan = plan_epoch(rows, 32, np.random.default_rng(0), n_parts=n_parts, multiple=2)
    assert plan.n_parts == n_parts
    assert plan.rows.shape[0] % n_parts == plan.rows.shape[1] % 2 == 0
    np.testing.assert_array_equal(np.sort(plan.rows[plan.weights == 1]), rows)
    filled = plan.weights.sum(axis=1)
    assert filled.max() - filled.min() <= 1
    for rows_of, weights in zip(np.split(plan.rows, n_parts), np.split(plan.weights, n_parts), strict=True):
        here = np.sort(rows_of[weights == 1]) // 3
        assert np.isin(rows_of, here * 3).all()  # what only fills needs no further read
        # cut by the ends of the part, a run is in two pieces at most
        assert np.sum(np.diff(here) > 1) <= len(here) / max(n // (n_parts * RUNS), 1) + 2


@pytest.mark.parametrize("n", [2**15, 2**18])
def test_runs_mix_nearly_as_well_as_rows(n):
    """Rows sorted by eight labels, 256 of 1024 runs in a part, however many rows a part has.

    A label's share in a minibatch of 128 scatters as that of 128 random rows, 1, and of the runs besides, drawn without
    replacement: 128 / 256 x 3 / 4.
    """
    rng = np.random.default_rng(0)
    labels = np.arange(n) * 8 // n
    shares = []
    for _ in range(2**22 // n):
        plan = plan_epoch(np.arange(n), 128, rng, n_parts=4)
        shares.append((labels[plan.rows][..., None] == np.arange(8)).mean(axis=1))
    assert np.var(np.concatenate(shares), axis=0).mean() / (1 / 8 * 7 / 8 / 128) == pytest.approx(1.375, rel=0.05)


def test_rows_of_a_part_are_in_random_order():
    """Neighbours of a run of 8 are in one minibatch of a part's 16 no more often than chance; epochs differ."""
    rng = np.random.default_rng(0)
    plan, other = (plan_epoch(np.arange(8192), 128, rng, n_parts=4) for _ in range(2))
    step = np.empty(8192)
    step[plan.rows] = np.arange(64)[:, None]
    together = np.diff(step.reshape(-1, 8), axis=1) == 0
    assert abs(together.mean() - 1 / 16) < 0.01
    moved = np.empty(8192)
    moved[other.rows] = np.arange(64)[:, None]
    assert np.mean(step // 16 == moved // 16) == pytest.approx(1 / 4, abs=0.06)


def backed(x, tmp_path, kind=sparse.csr_matrix, **how):
    ad.AnnData(kind(x)).write(tmp_path / "x.h5ad", **how)
    return ad.read_h5ad(tmp_path / "x.h5ad", backed="r").X


def in_zarr(x, tmp_path):
    group = zarr.open_group(tmp_path / "x.zarr", mode="w")
    ad.io.write_elem(group, "x", sparse.csr_matrix(x), dataset_kwargs={"chunks": (97,)})
    return ad.io.sparse_dataset(group["x"])


KINDS = {
    "dense": lambda x, _: x,
    "csr": lambda x, _: sparse.csr_matrix(x),
    "csc": lambda x, _: sparse.csc_matrix(x),
    "int": lambda x, _: x.astype(np.int64),
    "dask": lambda x, _: da.from_array(x, chunks=(50, 30)),
    "backed": backed,
    "backed csc": lambda x, path: backed(x, path, sparse.csc_matrix),
    "backed dense": lambda x, path: backed(x, path, np.asarray),
    "backed gzip": lambda x, path: backed(x, path, compression="gzip"),
    "zarr": in_zarr,
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


@pytest.mark.parametrize("kind", KINDS)
def test_large_data_are_planned_alike_wherever_they_lie(counts, kind, tmp_path, monkeypatch):
    """Beyond ``RESIDENT_BYTES`` by parts, whatever the kind of array and also where a larger budget holds it whole."""
    monkeypatch.setattr("dbx.data.minibatches.RESIDENT_BYTES", 211 * 30 - 1)
    monkeypatch.setattr("dbx.data.minibatches.CHUNK_BYTES", 1600)
    monkeypatch.setattr("dbx.data.minibatches.RUNS", 10)
    monkeypatch.setattr("dbx.data.kinds.READ_BYTES", 0)
    x = RowBlocks(KINDS[kind](counts, tmp_path))
    plan = Minibatches({"x": RowBlocks(counts)}, budget=0).plan(np.arange(211), 16, np.random.default_rng(0))
    assert plan.n_parts == 4
    for budget in (0, 2**30):
        data = Minibatches({"x": x, "codes": np.arange(211)}, budget=budget)
        np.testing.assert_array_equal(data.plan(np.arange(211), 16, np.random.default_rng(0)).rows, plan.rows)
        chunks = list(data.epoch(plan))
        assert [chunk.rows.shape for chunk in chunks] == ([(4, 14)] * 4 if budget == 0 else [(16, 14)])
        for chunk in chunks:
            assert chunk.data["x"].dtype == np.uint8
            np.testing.assert_array_equal(np.asarray(chunk.data["x"])[chunk.rows], counts[plan.rows[chunk.steps]])
            np.testing.assert_array_equal(np.asarray(chunk.data["codes"])[chunk.rows], plan.rows[chunk.steps])


def test_says_where_the_data_lie(counts):
    x = np.tile(counts, (200, 1))
    assert Minibatches({"x": RowBlocks(x)}).placement == "data on the device (1 MB)"
    assert Minibatches({"x": RowBlocks(x)}, budget=0).placement == "data streamed to the device (1 MB each epoch)"


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
