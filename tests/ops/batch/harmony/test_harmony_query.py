"""Cells of new batches on a Harmony reference, beside Symphony's formulas written out."""

import numpy as np
import pandas as pd
import pytest
from flax import nnx
from harmonypy import compute_lisi

from dbx.data import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.batch.harmony.harmony import Harmony
from dbx.ops.batch.harmony.symphony import _assigned
from dbx.ops.state import rebuild, state_arrays
from dbx.ops.values import Codes


@pytest.fixture(scope="module")
def cells():
    """500 cells of 3 groups in 3 batches and 2 sites; the last batch, and with it a third site, is held out."""
    rng = np.random.default_rng(2)
    batch, group = rng.integers(3, size=500), rng.integers(3, size=500)
    site = np.where(batch == 2, rng.integers(1, 3, size=500), rng.integers(2, size=500))
    x = (rng.normal(size=(3, 6)) * 5)[group] + (rng.normal(size=(3, 6)) * 1.5)[batch] + rng.normal(size=(500, 6))
    return x.astype(np.float32), {"batch": batch, "site": site}, group


def columns(labels, rows, keys, n_levels):
    return {
        key: Codes(labels[key][rows].astype(np.int32), tuple(f"{key}{i}" for i in range(n)))
        for key, n in zip(keys, n_levels, strict=True)
    }


def reference(cells, keys=("batch",), **config):
    """(fitted operator, its cells, their batches)."""
    x, labels, _ = cells
    rows = labels["batch"] < 2
    operator, batch = Harmony(max_iter=3, tol=0.0, **config), columns(labels, rows, keys, (2, 2)[: len(keys)])
    operator.fit(x=RowBlocks(x[rows]), batch=batch)
    return operator, x[rows], batch


def mapped(operator, x, batch):
    return apply(operator, {"x": RowBlocks(x), "batch": batch}, len(x))["z"]


def symphony(shares, z, design, penalty, sizes, sums):
    """Corrected query: in each cluster, regression on an intercept, which the reference helps to find, and batches."""
    corrected = z.copy()
    for k, share in enumerate(shares.T):
        gram = design.T @ (share[:, None] * design) + np.diag(np.append(0, penalty))
        gram[0, 0] += sizes[k]
        right = design.T @ (share[:, None] * z)
        right[0] += sums[k]
        effect = np.linalg.solve(gram, right)
        effect[0] = 0
        corrected -= share[:, None] * (design @ effect)
    return corrected


def test_a_new_batch_is_mapped_as_symphony_does(cells):
    x, labels, _ = cells
    operator, _, _ = reference(cells)
    new = labels["batch"] == 2
    sizes, sums = np.asarray(operator.reference_sizes[...], float), np.asarray(operator.reference_sums[...], float)
    direction = x[new] / np.linalg.norm(x[new], axis=1, keepdims=True)
    shares = np.exp(2 * direction @ np.asarray(operator.centroids[-1]).T / operator.sigma)
    shares /= shares.sum(axis=1, keepdims=True)
    design = np.ones((new.sum(), 2))
    expected = symphony(shares.astype(float), x[new].astype(float), design, [1.0], sizes, sums)
    batch = columns(labels, new, ("batch",), (3,))
    operator.extend(x=RowBlocks(x[new]), batch=batch)
    z = mapped(operator, x[new], batch)
    np.testing.assert_allclose(z, expected, atol=1e-4)  # float32 products


def test_the_reference_is_left_as_it_was(cells):
    x, labels, _ = cells
    operator, x_reference, batch = reference(cells, ("batch", "site"))
    before = mapped(operator, x_reference, batch)
    new = labels["batch"] == 2
    operator.extend(x=RowBlocks(x[new]), batch=columns(labels, new, ("batch", "site"), (3, 3)))
    grown = {key: Codes(c.codes, (*c.levels, "new")) for key, c in batch.items()}
    np.testing.assert_array_equal(mapped(operator, x_reference, grown), before)
    again = rebuild(Harmony, operator.config, state_arrays(operator))
    query = columns(labels, new, ("batch", "site"), (3, 3))
    np.testing.assert_array_equal(mapped(again, x[new], query), mapped(operator, x[new], query))


def test_a_new_level_of_one_key_keeps_what_is_known_of_the_other(cells):
    x, labels, _ = cells
    operator, _, _ = reference(cells, ("batch", "site"))
    new = (labels["batch"] == 2) & (labels["site"] == 1)
    batch = columns(labels, new, ("batch", "site"), (3, 2))
    known = {"batch": Codes(np.full(new.sum(), -1, np.int32), ("batch0", "batch1")), "site": batch["site"]}
    shares, z = _assigned(*nnx.split(operator), x[new], known)
    sizes, sums = np.asarray(operator.reference_sizes[...], float), np.asarray(operator.reference_sums[...], float)
    expected = symphony(np.asarray(shares, float), np.asarray(z, float), np.ones((new.sum(), 2)), [1.0], sizes, sums)
    operator.extend(x=RowBlocks(x[new]), batch=batch)
    np.testing.assert_allclose(mapped(operator, x[new], batch), expected, atol=1e-4)


@pytest.mark.parametrize("lamb", [1.0, None, (0.5, 2.0)])
def test_new_cells_mix_with_the_reference(cells, lamb):
    x, labels, group = cells
    operator, x_reference, known = reference(cells, lamb=lamb)
    new = labels["batch"] == 2
    batch = columns(labels, new, ("batch",), (3,))
    operator.extend(x=RowBlocks(x[new]), batch=batch)
    z = np.concatenate([mapped(operator, x_reference, known), mapped(operator, x[new], batch)])
    order = np.concatenate([np.flatnonzero(~new), np.flatnonzero(new)])
    meta = pd.DataFrame({"new": new[order], "group": group[order]})
    before, after = (compute_lisi(np.array(a, float), meta, ["new", "group"], 30) for a in (x[order], z))
    assert after[new[order], 0].mean() > before[new[order], 0].mean() + 0.3
    assert after[:, 1].mean() < 1.02


def test_fewer_levels_than_at_the_fit_are_refused(cells):
    x, operator = cells[0], reference(cells)[0]
    with pytest.raises(ValueError, match="list the fitted levels first"):
        operator.extend(x=RowBlocks(x[:5]), batch={"batch": Codes(np.zeros(5, np.int32), ("batch0",))})
