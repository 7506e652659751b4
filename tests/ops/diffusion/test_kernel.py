"""The alpha-decay kernel beside its definition, written densely, and beside stored rows of graphtools."""

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from dbx.ops.diffusion.kernel import alpha_decay, decay_weights, query_bandwidths, query_kernel


def dense(x, knn, decay, thresh=1e-4, knn_max=None):
    """(kernel, one-sided kernel) by the definition."""
    apart = cdist(x, x)
    others = np.sort(apart + np.where(np.eye(len(x)), np.inf, 0), axis=1)
    one_sided = np.exp(-((apart / others[:, [knn - 1]]) ** decay))
    if knn_max is not None:
        one_sided[apart > others[:, [knn_max - 1]]] = 0
    one_sided[one_sided < thresh] = 0
    np.fill_diagonal(one_sided, 1)
    return (one_sided + one_sided.T) / 2


@pytest.mark.parametrize(("decay", "knn_max"), [(40, None), (2, None), (1, 15), (15, 8)])
def test_as_defined(rng, decay, knn_max):
    x = rng.normal(size=(150, 6))  # with decay 2 rows reach beyond the neighbours that are searched for at first
    fitted = alpha_decay(x, knn=5, decay=decay, knn_max=knn_max)
    np.testing.assert_allclose(fitted.matrix.toarray(), dense(x, 5, decay, knn_max=knn_max), atol=1e-12)
    assert fitted.n_duplicates == 0


@pytest.mark.parametrize(("decay", "knn_max"), [(40, None), (1, 15)])
def test_a_new_cell_has_the_row_that_it_would_have_in_a_common_kernel(rng, decay, knn_max):
    x, new = rng.normal(size=(150, 6)), rng.normal(size=(20, 6))
    settings = {"knn": 5, "decay": decay, "knn_max": knn_max}
    fitted = alpha_decay(x, **settings)
    anew = query_kernel(x, x, fitted, **settings, own=np.arange(150)).toarray()
    np.testing.assert_allclose(anew + np.eye(150), fitted.matrix.toarray(), atol=1e-12)
    found = query_kernel(new, x, fitted, **settings).toarray()
    bandwidths, reach = query_bandwidths(new, x, **settings)
    apart = cdist(new, x)
    here = np.where(apart <= reach[:, None], np.exp(-((apart / bandwidths[:, None]) ** decay)), 0)
    there = np.where(apart <= fitted.reach, np.exp(-((apart / fitted.bandwidths) ** decay)), 0)
    np.testing.assert_allclose(found, (here + there) / 2, atol=1e-12)


def test_duplicates_are_counted_and_keep_a_bandwidth(rng):
    x = rng.normal(size=(60, 4))
    x[:7] = x[0]
    fitted = alpha_decay(x, knn=5, decay=40)
    assert fitted.n_duplicates == 7
    assert (fitted.bandwidths > 0).all()
    values = fitted.matrix[:7][:, :7].toarray()
    np.testing.assert_array_equal(values, np.ones((7, 7)))


def test_weights_have_a_gradient_in_distances_and_bandwidths(rng):
    with jax.enable_x64(True):
        apart, width = jax.numpy.asarray([0.0, 0.5, 1.2, 3.0]), jax.numpy.asarray(1.1)

        def total(apart, width):
            return decay_weights(apart, width, 2.0, 0.7).sum()

        by_apart, by_width = jax.grad(total, argnums=(0, 1))(apart, width)
        step = 1e-6
        up, down = total(apart, width + step), total(apart, width - step)
        np.testing.assert_allclose(by_width, (up - down) / (2 * step), rtol=1e-7)
        assert by_apart[0] == 0
        np.testing.assert_allclose(
            by_apart[2],
            (total(apart.at[2].add(step), width) - total(apart.at[2].add(-step), width)) / (2 * step),
            rtol=1e-7,
        )
        assert by_apart[3] == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"knn": 60}, "choose knn from 1 to 59"),
        ({"knn": 5, "decay": 0}, "decay must be above 0"),
        ({"knn": 5, "knn_max": 4}, "knn_max must be at least 5"),
        ({"knn": 5, "thresh": 0}, "thresh"),
        ({"knn": 5, "metric": "hamming"}, "choose one of"),
    ],
)
def test_wrong_settings(rng, settings, message):
    with pytest.raises((ValueError, KeyError), match=message):
        alpha_decay(rng.normal(size=(60, 4)), **settings)
