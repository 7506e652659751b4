"""Attention over neighbours beside its formula, cell by cell in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.test_util import check_grads

from dbx.ops.nn.graph_attention import GATv2, masked_softmax

INDICES = np.array([[1, 2, 3], [0, 1, 1], [0, 4, 2], [3, 3, 3], [1, 0, 5]])
MASK = np.array([[1, 1, 1], [1, 0, 0], [1, 1, 0], [0, 0, 0], [1, 1, 1]], bool)


def by_hand(layer, h, edges):
    left = np.asarray((layer.sender if layer.share_weights else layer.receiver).kernel[...], float)
    right, v = np.asarray(layer.sender.kernel[...], float), np.asarray(layer.logit[...], float)
    units, found = v.shape[1], []
    for i in range(len(INDICES)):
        row = []
        for head in range(layer.heads):
            of_head = slice(head * units, (head + 1) * units)
            members = [i, *INDICES[i][MASK[i]]]
            extra = [0, *edges[i][MASK[i]]]
            pairs = np.array([h[i] @ left[:, of_head] + h[j] @ right[:, of_head] for j in members])
            logits = np.where(pairs > 0, pairs, 0.2 * pairs) @ v[head] + extra
            weights = np.exp(logits) / np.exp(logits).sum()
            row.append(weights @ (h[members] @ right[:, of_head]))
        found.append(np.concatenate(row))
    skip = h[:5] @ np.asarray(layer.skip.kernel[...], float) if layer.residual else 0
    return np.array(found) + skip


@pytest.mark.parametrize(("heads", "residual", "share"), [(1, False, True), (2, True, False)])
def test_as_the_formula(rng, heads, residual, share):
    layer = GATv2(heads=heads, residual=residual, share_weights=share)
    layer.reset(np.random.default_rng(1), 3, 4)
    h, edges = rng.normal(size=(6, 3)), rng.normal(size=(5, 3))  # row 5 only sends
    found = layer(jnp.asarray(h, jnp.float32), INDICES, MASK, edges=edges)
    np.testing.assert_allclose(found, by_hand(layer, h, edges), rtol=1e-5, atol=1e-6)
    attention = layer.attention(jnp.asarray(h, jnp.float32), INDICES, MASK)
    np.testing.assert_allclose(attention.sum(axis=1), 1, rtol=1e-6)
    assert (np.asarray(attention)[3, 1:] == 0).all()


def test_gradient_beside_finite_differences():
    with jax.enable_x64(True):
        layer = GATv2(heads=2, residual=True)
        layer.reset(np.random.default_rng(1), 3, 4)
        graph, state = nnx.split(jax.tree.map(lambda x: x.astype("float64"), layer))
        h = jnp.asarray(np.random.default_rng(2).normal(size=(6, 3)))

        def loss(state, h):
            return (nnx.merge(graph, state)(h, INDICES, MASK) ** 2).sum()

        check_grads(loss, (state, h), order=1, modes=["rev"], atol=1e-6, rtol=1e-6)


def test_rows_without_entries_have_no_weights_and_no_gradient():
    mask = np.array([[True, False], [False, False]])
    gradient = jax.grad(lambda x: (masked_softmax(x, mask, axis=1) ** 2).sum())(jnp.ones((2, 2)) * 1e4)
    np.testing.assert_array_equal(masked_softmax(jnp.ones((2, 2)) * 1e4, mask, axis=1), [[1, 0], [0, 0]])
    np.testing.assert_array_equal(gradient, 0)


def test_heads_must_divide_units():
    with pytest.raises(ValueError, match="heads must divide"):
        GATv2(heads=3).reset(np.random.default_rng(0), 3, 4)
