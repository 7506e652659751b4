import numpy as np
import pytest
from scipy import sparse

from dbx.data import RowBlocks
from dbx.ops.batch.composition import _mutual_neighbors, shared_composition


def simulated(shares, seed=0, n_cells=1200, n_genes=300):
    """Counts of kinds whose shares differ between batches that differ in every gene."""
    rng = np.random.default_rng(seed)
    batch = rng.integers(0, len(shares), n_cells).astype(np.int32)
    kind = np.array([rng.choice(3, p=shares[b]) for b in batch])
    effect = rng.normal(0, 1, (3, n_genes)) * (rng.random((3, n_genes)) < 0.3)
    log_mean = rng.normal(0, 1, n_genes) + effect[kind] + rng.normal(0, 0.25, (len(shares), n_genes))[batch]
    mean = 1500 * np.exp(log_mean) / np.exp(log_mean).sum(axis=1, keepdims=True)
    return rng.poisson(mean).astype(np.float32), kind, batch


@pytest.mark.parametrize(
    "shares", [((0.6, 0.3, 0.1), (0.1, 0.3, 0.6)), ((0.5, 0.5, 0), (0, 0.5, 0.5), (0.2, 0.2, 0.6))]
)
def test_weights_are_what_the_shares_of_the_kinds_say(shares):
    counts, kind, batch = simulated(shares)
    n_batches = len(shares)
    weights = shared_composition(RowBlocks(sparse.csr_matrix(counts)), batch, n_batches)
    assert weights.shape == (1200, n_batches)
    assert weights.dtype == np.float32
    for a in range(n_batches):
        for b in range(n_batches):
            for k in range(3):
                if a != b and shares[a][k]:
                    found = weights[(batch == a) & (kind == k), b].mean()
                    # clusters hold some hundred cells: shares are known to about a tenth
                    assert found == pytest.approx(2 * shares[b][k] / (shares[a][k] + shares[b][k]), abs=0.15)


def test_batches_of_one_kind_each_cannot_be_told_from_a_batch_effect():
    """They are taken for the same kind; every cell then counts about alike."""
    counts, _, batch = simulated(((1.0, 0, 0), (0, 1.0, 0)))
    weights = shared_composition(RowBlocks(counts), batch, 2)
    assert weights.min() >= 0
    assert weights.max() <= 2
    assert weights[np.arange(1200), 1 - batch].mean() > 0.5


def test_mutual_neighbors_are_mutual():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(60, 3)), rng.normal(size=(50, 3)) + 1
    square = ((a[:, None] - b) ** 2).sum(axis=2)
    near = (square.argsort(axis=1).argsort(axis=1) < 20) & (square.argsort(axis=0).argsort(axis=0) < 20)
    found = np.zeros_like(near)
    found[_mutual_neighbors(a, b)] = True
    np.testing.assert_array_equal(found, near)
    assert len(_mutual_neighbors(a[:1], b[:1])[0]) == 1
