"""Parts of the networks by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy import sparse

from dbx.ops.nn.attention_block import AttentionBlock, turned
from dbx.ops.sequence.convolution import ConvolutionalEncoder, Filters
from dbx.ops.sequence.network import reverse_complement
from dbx.ops.sequence.objectives import masked_bases
from dbx.ops.sequence.pooling import Pooling
from dbx.ops.sequence.positions import angles
from dbx.ops.sequence.regression import Problem, _fit, fit_words, row_weights
from dbx.ops.sequence.tokens import Words
from dbx.ops.sequence.words import by_place, n_words, word_channels, word_table


def test_filters_are_correlations(rng):
    filters = Filters(3)
    filters.reset(rng, 2, 1)
    x = rng.normal(size=(1, 7, 2)).astype(np.float32)
    kernel = np.asarray(filters.linear.kernel[...]).reshape(3, 2)
    padded = np.pad(x[0], [(1, 1), (0, 0)])
    expected = [(padded[i : i + 3] * kernel).sum() for i in range(7)] + np.asarray(filters.linear.bias[...])
    np.testing.assert_allclose(np.asarray(filters(x))[0, :, 0], expected, rtol=1e-5)


def test_convolutions_ignore_padding_which_stays_zero(rng):
    encoder = ConvolutionalEncoder(kernel_sizes=(3, 3), dropout=0.0)
    encoder.reset(rng, 4)
    drawn = nnx.Param(jnp.asarray(rng.normal(size=4), jnp.float32))  # as after a training
    encoder.filters.linear.bias = encoder.layers[0].norm.offset = drawn
    soft = np.eye(4, dtype=np.float32)[rng.integers(0, 4, (1, 8))]
    mask = np.arange(8)[None] < 5
    found = np.asarray(encoder(jnp.asarray(soft * mask[..., None]), jnp.asarray(mask))[0])
    alone = np.asarray(encoder(jnp.asarray(soft[:, :5]), jnp.asarray(mask[:, :5]))[0])
    np.testing.assert_allclose(found[:, :5], alone, atol=1e-6)
    assert not found[:, 5:].any()


def test_attention_ignores_padding(rng):
    block = AttentionBlock(n_heads=2)
    block.reset(rng, 4, 8)
    h = rng.normal(size=(1, 5, 4)).astype(np.float32)
    mask = np.array([[True, True, True, False, False]])
    changed = h.copy()
    changed[0, 3:] = 100
    found = [np.asarray(block(x, mask))[0, :3] for x in (h, changed)]
    np.testing.assert_array_equal(*found)
    np.testing.assert_allclose(found[0], np.asarray(block(h[:, :3], mask[:, :3]))[0], atol=1e-6)


def test_rotary_products_depend_on_distance(rng):
    query, key = rng.normal(size=(2, 1, 1, 1, 4)).astype(np.float32)
    turns = angles(20, 2)
    at = [turned(np.repeat(x, 20, axis=1), turns)[0, :, 0] for x in (query, key)]
    products = np.asarray(at[0] @ at[1].T)
    np.testing.assert_allclose(products[3, 7], products[10, 14], rtol=1e-4)
    assert abs(products[3, 7] - products[3, 8]) > 1e-4


def test_words_are_rows_of_a_table(rng):
    words = Words(2)
    words.reset(rng, 3)
    bases = np.array([0, 3, 2, 1, 1])  # AT, GC, C?
    found, mask = words(jnp.eye(4)[bases][None], jnp.ones((1, 5), bool), None)
    table = np.asarray(words.table[...])
    np.testing.assert_allclose(found[0], [table[3], table[9], table[4:8].mean(axis=0)], rtol=1e-5)
    assert mask.all()


def test_word_channels_and_places():
    soft = np.eye(4, dtype=np.float32)[[[0, 1, 1, 2]]]
    channels = word_channels(soft, 2)
    assert channels.shape == (1, 4, n_words(2))
    assert [int(x) for x in channels[0, :, 4:].argmax(axis=1)[:3]] == [1, 5, 6]  # AC, CC, CG
    assert not channels[0, 3, 4:].any()
    np.testing.assert_allclose(channels, word_channels(jnp.asarray(soft), 2))
    mask = np.ones((1, 4), bool)
    phases = by_place(channels, mask, by_position=False).reshape(3, -1) * (4 / 3) ** 0.5
    np.testing.assert_allclose(phases[0], channels[0, 0] + channels[0, 3])
    table = word_table(soft, mask, 2, by_position=True)
    np.testing.assert_array_equal(table.toarray().reshape(4, -1), channels[0])


def test_reverse_complement_keeps_padding_at_the_end():
    soft = np.zeros((1, 4, 4), np.float32)
    soft[0, [0, 1, 2], [0, 0, 2]] = 1  # AAG
    turned_, _ = reverse_complement(jnp.asarray(soft), jnp.asarray(soft.any(axis=2)))
    np.testing.assert_array_equal(np.asarray(turned_)[0].argmax(axis=1)[:3], [1, 3, 3])  # CTT
    assert not np.asarray(turned_)[0, 3].any()


@pytest.mark.parametrize("kind", ["mean", "max", "attention", "attention_max"])
def test_pooling_ignores_padding(kind, rng):
    pooling = Pooling(kind=kind, n_heads=3, length=0)
    pooling.reset(rng, 4)
    h = rng.normal(size=(1, 8, 4)).astype(np.float32)
    mask = np.arange(8)[None] < 5
    np.testing.assert_allclose(pooling(h, mask), pooling(h[:, :5], mask[:, :5]), atol=1e-6)


def test_regression_is_scikit_learns(rng):
    from sklearn.linear_model import LogisticRegression

    x = rng.normal(size=(60, 4))
    codes = (x[:, 0] + rng.normal(size=60) > 0).astype(int) + (x[:, 1] > 1)
    model = _fit(sparse.csr_matrix(x), codes, np.ones(60), 2.0)
    expected = LogisticRegression(C=0.5, tol=1e-8).fit(x, codes)
    logits = x @ model.kernel + model.bias
    difference = (logits - logits[:, :1]) - (expected.decision_function(x) - expected.decision_function(x)[:, :1])
    np.testing.assert_allclose(difference, 0, atol=0.02)  # L-BFGS stops at 1e-6 of the loss


def test_rows_without_a_label_help(rng):
    """Two clusters with four labels: the others tell where they are."""
    centres = rng.choice([0.0, 1.0], (2, 200))
    truth = rng.integers(0, 2, 400)
    x = sparse.csr_matrix((rng.random((400, 200)) < 0.35 + 0.3 * centres[truth]).astype(float))
    codes = np.full(400, -1)
    for code in range(2):
        codes[np.flatnonzero(truth == code)[:4]] = code
    folds = np.zeros(400, int)
    folds[codes >= 0] = [0, 1, 2, 3] * 2
    with_all = fit_words(Problem(x, codes, folds, True)).model.logits(x).argmax(axis=1)
    known = codes >= 0
    alone = fit_words(Problem(x[known], codes[known], folds[known], True)).model.logits(x).argmax(axis=1)
    assert (with_all == truth).mean() > 0.98
    assert (with_all == truth).mean() > (alone == truth).mean()


@pytest.mark.parametrize("sign", [1, -1])
def test_only_hidden_bases_are_predicted(sign, rng):
    """A network that sees all bases and copies them, or says the opposite, is right or wrong where they are shown."""

    class Copies:
        per_token = 1

        def bases(self, shown, mask, hidden, *, key=None):
            return sign * 20.0 * shown * (1 - hidden[..., None])

        def of_tokens(self, draws):
            return draws

    codes = rng.integers(0, 4, (200, 50)).astype(np.int8)
    codes[:, 40:] = -1
    import dbx.ops.sequence.objectives as module

    original = module.each
    module.each = lambda network, function, key: jax.tree.map(lambda leaf: leaf[None], function(network, key))
    try:
        losses, followed = masked_bases(Copies(), {"sequences": codes}, jax.random.key(0), mask_rate=0.15)
    finally:
        module.each = original
    if sign == 1:
        # a tenth is shown as it is, a quarter of another tenth by chance; of the hidden ones the first base is guessed
        np.testing.assert_allclose(np.mean(followed["masked_accuracy"]), 0.1 + 0.025 + 0.8 / 4, atol=0.03)
        # hidden bases cost log 4, another base the logit of 20 that speaks for it, and those that are shown nothing
        np.testing.assert_allclose(np.mean(losses), 0.8 * np.log(4) + 0.075 * 20, atol=0.15)
    else:
        expected = 0.8 * np.log(4) + 0.125 * (20 + np.log(3)) + 0.075 * np.log(3)
        np.testing.assert_allclose(np.mean(losses), expected, atol=0.25)


def test_classes_have_equal_weight():
    codes = np.array([0, 0, 0, 1])
    np.testing.assert_allclose(row_weights(codes, balanced=True), [2 / 3, 2 / 3, 2 / 3, 2])
    np.testing.assert_array_equal(row_weights(codes, balanced=False), 1)
