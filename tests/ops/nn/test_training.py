import functools
import json
import os
import subprocess
import sys

import anndata as ad
import dask.array as da
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import zarr
from flax import nnx
from scipy import sparse

from dbx.data import RowBlocks
from dbx.data.minibatches import Minibatches, plan_epoch
from dbx.ops.nn.training import Training, train


class Line(nnx.Module):
    """Least squares with a variable that only counts its steps."""

    def __init__(self, n_in):
        self.slope, self.level = nnx.Param(jnp.zeros(n_in)), nnx.Param(jnp.zeros(()))
        self.seen = nnx.BatchStat(jnp.zeros(()))


def squares(model, batch, key, *, ridge=0.0):
    if key is not None:
        model.seen[...] = model.seen[...] + 1
    residual = batch["y"] - batch["x"] @ model.slope[...] - model.level[...]
    return residual**2 + ridge * jnp.sum(model.slope[...] ** 2), {"absolute": jnp.abs(residual)}


def noisy(model, batch, key):
    losses, followed = squares(model, batch, key)
    return losses + 0 if key is None else losses * jax.random.uniform(key, losses.shape), followed


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(203, 4)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5, 0.0] + 0.7 + 0.1 * rng.normal(size=203)).astype(np.float32)
    return {"x": RowBlocks(x), "y": y}


def test_reaches_least_squares(data):
    model = Line(4)
    history = train(model, squares, Minibatches(data), Training(epochs=120, batch_size=16, learning_rate=0.02))
    x = np.column_stack([data["x"].dense(), np.ones(203)])
    exact, residual, *_ = np.linalg.lstsq(x, data["y"], rcond=None)
    # Adam with a constant rate hovers around the minimum by a fraction of the rate
    np.testing.assert_allclose(np.append(model.slope[...], model.level[...]), exact, atol=0.02)
    assert history["loss"][-1] == pytest.approx(residual[0] / 203, rel=0.05)
    assert history["loss"].shape == history["absolute"].shape == (120,)
    assert float(model.seen[...]) == 120 * 13


def test_one_step_is_optax(data):
    """Weighted mean over the true rows, weight decay, clipping by the global norm, Adam, in that order."""
    model = Line(4)
    how = Training(epochs=1, batch_size=500, learning_rate=0.1, weight_decay=0.3, clip_norm=0.5, epsilon=1e-3)
    model.slope[...] = start = jnp.array([3.0, 0.0, -1.0, 2.0])
    train(model, squares, Minibatches(data), how)

    def mean(p):
        return jnp.mean((data["y"] - data["x"].dense() @ p["slope"] - p["level"]) ** 2)

    parameters = {"slope": start, "level": jnp.zeros(())}
    reference = optax.chain(optax.add_decayed_weights(0.3), optax.clip_by_global_norm(0.5), optax.adam(0.1, eps=1e-3))
    updates, _ = reference.update(jax.grad(mean)(parameters), reference.init(parameters), parameters)
    expected = optax.apply_updates(parameters, updates)
    np.testing.assert_allclose(model.slope[...], expected["slope"], rtol=1e-5)
    np.testing.assert_allclose(model.level[...], expected["level"], rtol=1e-5)


def test_filled_slots_have_no_weight(data):
    """203 rows in 13 minibatches of 16 slots: the epoch's means are those of the 203 rows."""
    history = train(Line(4), squares, Minibatches(data), Training(epochs=1, batch_size=16, learning_rate=0.0))
    assert history["loss"][0] == pytest.approx(np.mean(data["y"] ** 2), rel=1e-5)


def test_same_seed_same_bits_streamed_or_not(data, monkeypatch):
    monkeypatch.setattr("dbx.data.minibatches.CHUNK_BYTES", 16 * 4 * 4 * 3)
    how = Training(epochs=3, batch_size=16)
    models = [Line(4) for _ in range(4)]
    for model, seed, budget in zip(models, (1, 1, 1, 2), (2**30, 2**30, 0, 2**30), strict=True):
        train(model, noisy, Minibatches(data, budget=budget), how, seed=seed)
    first, again, streamed, other = (np.asarray(model.slope[...]) for model in models)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(first, streamed, rtol=1e-5)  # the scan is compiled for another length
    assert np.abs(first - other).max() > 1e-5


KINDS = {
    "csr": lambda x, _: sparse.csr_matrix(x),
    "csc": lambda x, _: sparse.csc_matrix(x),
    "int": lambda x, _: x.astype(np.int64),
    "dask": lambda x, _: da.from_array(x, chunks=(50, 4)),
    "sparse dask": lambda x, _: da.from_array(x, chunks=(50, 4)).map_blocks(sparse.csr_matrix),
    "h5ad": lambda x, path: backed(sparse.csr_matrix(x), path),
    "h5ad csc": lambda x, path: backed(sparse.csc_matrix(x), path),
    "h5ad dense": lambda x, path: backed(x, path),
    "zarr": lambda x, path: in_zarr(sparse.csr_matrix(x), path),
    "zarr dense": lambda x, path: in_zarr(x, path),
}


def backed(x, path):
    ad.AnnData(x).write(path / "x.h5ad")
    return ad.read_h5ad(path / "x.h5ad", backed="r").X


def in_zarr(x, path):
    group = zarr.open_group(path / "x.zarr", mode="w")
    ad.io.write_elem(group, "x", x)
    return ad.io.sparse_dataset(group["x"]) if sparse.issparse(x) else group["x"]


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("resident", [True, False])
def test_every_kind_of_array_trains_the_same_bits(resident, large, tmp_path, monkeypatch):
    """On the device, streamed, and shuffled by runs as large data are, with rows held out."""
    monkeypatch.setattr("dbx.data.minibatches.CHUNK_BYTES", 16 * 4 * 3)
    monkeypatch.setattr("dbx.data.minibatches.RUNS", 6)
    if large:
        monkeypatch.setattr("dbx.data.minibatches.RESIDENT_BYTES", 0)
    rng = np.random.default_rng(0)
    x = rng.poisson(1.0, (203, 4)).astype(np.float32)
    y = (x @ [1.0, -2.0, 0.5, 0.0] + rng.normal(size=203)).astype(np.float32)
    how = Training(epochs=3, batch_size=16, validation=0.1)

    def trained(x):
        model, data = Line(4), Minibatches({"x": RowBlocks(x), "y": y}, budget=2**30 if resident else 0)
        history = train(model, noisy, data, how)
        return np.concatenate([model.slope[...], history["loss"], history["validation_loss"]])

    expected = trained(x)
    assert np.abs(expected[:4]).min() > 0
    for kind, wrap in KINDS.items():
        np.testing.assert_array_equal(trained(wrap(x, tmp_path)), expected, err_msg=kind)


def drawn(model, batch, key):
    losses, _ = squares(model, batch, key)
    return losses, {"draw": jnp.broadcast_to(jax.random.uniform(key), losses.shape)}


def test_each_step_has_its_own_key(data):
    draws = train(Line(4), drawn, Minibatches(data), Training(epochs=40, batch_size=16))["draw"]
    # means of 13 uniform numbers have a standard deviation of 0.08; one number for each epoch would have 0.29
    assert 0.05 < draws.std() < 0.12
    assert abs(draws.mean() - 0.5) < 0.05


def test_schedules_reach_the_loss_and_the_rate(data):
    seen = []
    how = Training(
        epochs=3,
        batch_size=100,
        learning_rate=0.5,
        schedules={"ridge": lambda done: seen.append(done) or done * 0, "learning_rate": lambda done: done >= 1},
    )
    model, history = Line(4), None
    history = train(model, squares, Minibatches(data), how)
    np.testing.assert_allclose(np.concatenate(seen), np.arange(9) / 3)
    assert history["loss"][0] == pytest.approx(history["loss"][1] * 0 + np.mean(data["y"] ** 2), rel=1e-5)
    assert history["loss"][2] != pytest.approx(history["loss"][0], rel=1e-3)


def test_stops_early_and_restores_the_best(data):
    """A rate that grows until it diverges: the best epoch is in the middle."""
    how = Training(
        epochs=200,
        batch_size=32,
        learning_rate=0.05,
        validation=0.2,
        patience=4,
        schedules={"learning_rate": lambda done: np.where(done < 20, 1.0, 40.0)},
    )
    model = Line(4)
    found = train(model, squares, Minibatches(data), how)
    history, best = found["validation_loss"], int(np.argmin(found["validation_loss"]))
    assert found["kept"] == [best + 1]
    assert len(history) == best + 1 + 4 < 200
    held_out = np.sort(np.random.default_rng(0).permutation(203)[:41])
    residual = data["y"] - data["x"].dense() @ np.asarray(model.slope[...]) - np.asarray(model.level[...])
    assert np.mean(residual[held_out] ** 2) == pytest.approx(history[best], rel=1e-4)
    assert float(model.seen[...]) == (best + 1) * 6


def test_the_start_is_kept_where_no_epoch_is_better(data):
    """A rate so large that every epoch is worse than zeros."""
    model = Line(4)
    history = train(model, squares, Minibatches(data), Training(epochs=2, learning_rate=50.0, validation=0.2))
    assert history["kept"] == [0]
    assert not np.any(model.slope[...])


def test_only_what_is_trainable_moves(data):
    model = Line(4)
    train(model, squares, Minibatches(data), Training(epochs=2), trainable=lambda path, _: path[0] == "level")
    assert not np.any(model.slope[...])
    assert np.any(model.level[...])


def test_divergence_says_what_to_try(data):
    model = Line(4)
    bad = {**data, "y": np.where(np.arange(203) == 3, np.nan, data["y"]).astype(np.float32)}
    with pytest.raises(FloatingPointError, match=r"diverged: the loss is nan in epoch 1 of 2\. Try a smaller learning"):
        train(model, squares, Minibatches(bad), Training(epochs=2))
    assert not np.any(model.slope[...])


def test_progress_is_told_each_epoch(data):
    told = []
    train(Line(4), squares, Minibatches(data), Training(epochs=3), progress=lambda *now: told.append(now))
    assert [now[:2] for now in told] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert told[0][2] == "data on the device (0 MB)"
    assert all(now[2].startswith("loss ") for now in told[1:])


ON_DEVICES = """
import json

import jax
import numpy as np

from dbx.data import RowBlocks
from dbx.ops import Codes
from dbx.ops.batch.mmd import MMD
from dbx.ops.counts.vae import VAENormalize
from dbx.ops.batch.wgan import WGAN

counts = np.random.default_rng(0).poisson(2.0, (96, 30)).astype(np.float32)
same = {"likelihood": "nb", "n_latent": 3, "n_hidden": 8, "max_epochs": 4, "batch_size": 32}
found = {}
for operator in (VAENormalize(validation=0, **same), WGAN(critic_steps=2, **same), MMD(strength=1.0, **same)):
    operator.fit(x=RowBlocks(counts), batch=Codes(np.arange(96) % 2, ("a", "b")), seed=0)
    z = np.asarray(operator(counts)["z"])
    found[type(operator).__name__] = z.tolist(), operator.history["loss"].tolist()
print(json.dumps([len(jax.devices()), found]))
"""


@functools.cache
def on_devices(n_devices: int):
    # XLA sizes its pool of threads by NPROC; with one thread a device, two sums that do not depend on each other
    # (WGAN's two networks) can wait for each other for ever, each device at another of them
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={n_devices}", "NPROC": "16"}
    run = subprocess.run([sys.executable, "-c", ON_DEVICES], env=os.environ | flags, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    n_found, found = json.loads(run.stdout.splitlines()[-1])
    assert n_found == n_devices
    return found


@pytest.mark.slow
@pytest.mark.parametrize("n_devices", [2, 4])
@pytest.mark.parametrize("operator", ["VAENormalize", "WGAN", "MMD"])
def test_several_devices_give_what_one_gives(operator, n_devices):
    """Sums over devices are added in another order, which four epochs of Adam carry along: float32, not bits."""
    z, losses = on_devices(1)[operator]
    other, followed = on_devices(n_devices)[operator]
    np.testing.assert_allclose(followed, losses, rtol=1e-5)
    np.testing.assert_allclose(other, z, atol=2e-3)


def test_rows_that_only_fill_count_for_nothing(data):
    """With five slots more for each minibatch the epoch's means are those of the 203 rows."""
    plans = [plan_epoch(np.arange(203), 16, np.random.default_rng(0), multiple=multiple) for multiple in (1, 7)]
    assert [plan.rows.shape for plan in plans] == [(13, 16), (13, 21)]
    for plan in plans:
        assert sorted(plan.rows[plan.weights == 1]) == list(range(203))
        assert np.ptp(plan.weights.sum(axis=1)) <= 1
