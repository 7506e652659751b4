"""The order of cells and known fates, beside sums over pairs and scikit-learn."""

import jax
import numpy as np
import pytest
from sklearn.metrics import log_loss

from dbx.losses import Ordering, fate_cross_entropy, ordering
from dbx.losses.objectives import Cells


def test_ordering_is_the_mean_over_pairs_of_other_times(rng):
    z, times = rng.normal(size=30), rng.integers(0, 4, 30).astype(float)
    times[3], z[5] = np.nan, np.inf
    known = np.isfinite(times) & np.isfinite(z)
    scale = z[known].std() / 4
    expected = np.zeros(30)
    for i in np.flatnonzero(known):
        others = [j for j in np.flatnonzero(known) if times[j] != times[i]]
        later = [z[i] - z[j] if times[i] > times[j] else z[j] - z[i] for j in others]
        expected[i] = np.mean(np.log1p(np.exp(-np.array(later) / scale)))
    np.testing.assert_allclose(ordering(z, times), expected, rtol=1e-5)
    np.testing.assert_allclose(ordering(3 * z + 7, times), expected, rtol=1e-4)
    slope = jax.grad(lambda z: ordering(z, times).sum())(z)
    assert np.isfinite(slope).all()
    assert slope[5] == slope[3] == 0


def test_constant_pseudotime_has_a_finite_gradient():
    times = np.arange(4.0)
    slope = jax.grad(lambda z: ordering(z, times).sum())(np.ones(4))
    assert np.isfinite(slope).all()


def test_fates_as_the_cross_entropy_of_scikit_learn(rng):
    fates = rng.dirichlet([1, 1, 1], 20).astype(np.float32)
    codes = rng.integers(0, 3, 20)
    found = fate_cross_entropy(fates, codes)
    np.testing.assert_allclose(np.mean(found), log_loss(codes, fates, labels=[0, 1, 2]), rtol=1e-5)
    fates[2] = np.nan
    codes[4] = -1
    partly = np.asarray(fate_cross_entropy(fates, codes))
    assert partly[2] == partly[4] == 0
    np.testing.assert_array_equal(np.delete(partly, [2, 4]), np.delete(np.asarray(found), [2, 4]))
    assert np.isfinite(jax.grad(lambda p: fate_cross_entropy(p, codes).sum())(fates)).all()


def test_a_slot_of_several_columns_has_no_order(rng):
    cells = Cells(z=rng.normal(size=(5, 2)), read={"time": np.arange(5.0)}, rows=np.arange(5))
    with pytest.raises(ValueError, match="one number for each cell"):
        Ordering("age", slot="obsm/X_pca").of_cells(cells)
