"""Signals, links, and what senders are permuted among, each by hand in NumPy."""

import numpy as np
import pytest
from flax import nnx
from scipy.special import expit

from dbx.data import RowBlocks
from dbx.ops.signalling.amounts import amounts
from dbx.ops.signalling.links import Moments, pooled_pvalues, shrunk
from dbx.ops.signalling.messages import TINY, Messages
from dbx.ops.signalling.received import Cells, mean_slopes, received, sent_by_group
from dbx.ops.signalling.target_model import Targets

N_CELLS, N_GROUPS, WIDTH = 30, 3, 4


@pytest.fixture
def cells(rng):
    group = np.eye(N_GROUPS, dtype=np.float32)[np.arange(N_CELLS) % N_GROUPS]
    receptors = rng.gamma(2.0, 0.5, (N_CELLS, 2)).astype(np.float32)
    of_group = group.T @ receptors / group.sum(axis=0)[:, None]
    indices = np.array([rng.permutation(np.delete(np.arange(N_CELLS), i))[:WIDTH] for i in range(N_CELLS)])
    mask = rng.random(indices.shape) < 0.8
    mask[0] = False  # receives nothing
    return Cells(
        senders=rng.gamma(1.0, 1.0, (N_CELLS, 2)).astype(np.float32),
        receptors=receptors,
        of_group=of_group[np.arange(N_CELLS) % N_GROUPS],
        group=group,
        nearby=group,
        indices=indices.astype(np.int32),
        mask=mask,
        squares=rng.gamma(1.0, 1.0, indices.shape).astype(np.float32),
    )


@pytest.fixture
def messages(rng):
    """All parameters moved away from where they start; ligand 0 has both receptors, ligand 1 the second."""
    made = Messages(heads=2)
    made.reset(rng, N_GROUPS, np.array([0, 0, 1]), np.array([0, 1, 1]))
    state = nnx.state(made, nnx.Param)
    flat = {
        path: np.asarray(leaf) + rng.normal(0, 0.5, np.shape(leaf)).astype(np.float32) for path, leaf in flat_of(state)
    }
    for path, value in flat.items():
        target = made
        for name in path[:-1]:
            target = getattr(target, name)
        setattr(target, path[-1], nnx.Param(value))
    return made


def flat_of(state):
    return [(path, variable[...]) for path, variable in nnx.to_flat_state(state)]


def attention_by_hand(messages, cells):
    """GATv2 over the neighbours without the cell itself, minus a multiple of squared distances."""
    layer = messages.attention
    sent = cells.group @ np.asarray(layer.sender.kernel[...])
    got = cells.group @ np.asarray(layer.receiver.kernel[...])
    logit = np.asarray(layer.logit[...])
    found = np.zeros((N_CELLS, WIDTH, 2))
    for i in range(N_CELLS):
        pairs = got[i] + sent[cells.indices[i]]
        pairs = np.where(pairs > 0, pairs, 0.2 * pairs).reshape(WIDTH, 2, -1)
        strength = np.exp((pairs * logit).sum(axis=2) - np.asarray(messages.decay[...]) * cells.squares[i][:, None])
        strength *= cells.mask[i][:, None]
        found[i] = strength / np.maximum(strength.sum(axis=0), 1e-30)
    return found


def signals_by_hand(messages, cells, *, raw=False):
    mix = np.exp(np.asarray(messages.head[...]))
    mix /= mix.sum(axis=0)
    arriving = np.einsum("nwh,hl,nwl->nl", attention_by_hand(messages, cells), mix, cells.senders[cells.indices])
    pair = np.exp(np.asarray(messages.pair[...]))
    means = np.array([[pair[0] / (pair[0] + pair[1]), 0], [pair[1] / (pair[0] + pair[1]), 1]])
    own = expit(np.asarray(messages.own[...]))
    s = arriving * (own * (cells.receptors @ means) + (1 - own) * (cells.of_group @ means))
    if raw:
        return s
    return expit(np.exp(np.asarray(messages.slope[...])) * np.log(s / np.exp(np.asarray(messages.half[...])) + TINY))


def test_signals_by_hand(messages, cells):
    np.testing.assert_allclose(
        received(messages, cells, raw=True), signals_by_hand(messages, cells, raw=True), rtol=1e-4
    )
    np.testing.assert_allclose(received(messages, cells), signals_by_hand(messages, cells), rtol=1e-4)


def test_senders_may_be_others_than_receivers(messages, cells):
    """The first ten cells receive from all, as a minibatch in training does."""
    few = [
        part[:10] for part in (cells.receptors, cells.of_group, cells.group, cells.indices, cells.mask, cells.squares)
    ]
    found = messages(cells.senders, *few, sender_group=cells.group)
    np.testing.assert_allclose(found, received(messages, cells)[:10], rtol=1e-5)


def test_slopes_beside_differences(messages, cells):
    unit = np.array([2.0, 0.5], np.float32)
    step = 1e-2
    logs = np.log1p(cells.senders * unit)
    up, down = (
        received(messages, cells._replace(senders=(np.expm1(logs + s) / unit).astype(np.float32))).mean(axis=0)
        for s in (step, -step)
    )
    np.testing.assert_allclose(mean_slopes(messages, cells, unit), (up - down) / (2 * step), rtol=2e-3)


def test_strengths_are_of_what_the_first_group_sends(messages, cells):
    silent = cells._replace(senders=cells.senders * cells.group[:, :1])
    found = sent_by_group(messages, silent, np.array([1.0, 2.0]))
    assert (found[0] > 0).all()
    np.testing.assert_array_equal(found[1:], 0)
    everyone = sent_by_group(messages, cells, np.array([1.0, 2.0]))
    heard = received(messages, cells, raw=True) > 0
    effect = (received(messages, cells) * heard) @ [1.0, 2.0]
    sizes = cells.group.sum(axis=0)
    np.testing.assert_allclose(everyone.sum(axis=0), cells.group.T @ effect / sizes, rtol=1e-4)


@pytest.fixture
def regression(rng):
    n = 200
    base, signals = rng.normal(size=(n, 3)), rng.normal(size=(n, 2))
    signals += 0.5 * base[:, :2]
    targets = base @ rng.normal(size=(3, 4)) + signals @ rng.normal(size=(2, 4)) + rng.normal(size=(n, 4))
    targets = Targets.of(RowBlocks((5 + 3 * targets).astype(np.float64)))
    return base, signals, targets


def test_links_are_ordinary_least_squares(regression):
    """Coefficients of standardised targets, and z = coefficient over its standard error."""
    base, signals, targets = regression
    found = Moments(lambda rows: base[rows], targets, np.ones(200, bool)).links(signals)
    y = (targets.values.dense() - targets.mean) / targets.sd
    x = np.hstack([base, signals])
    coefficients = np.linalg.lstsq(x, y, rcond=None)[0]
    variance = ((y - x @ coefficients) ** 2).sum(axis=0) / (200 - 5)
    spread = np.sqrt(np.diag(np.linalg.inv(x.T @ x))[:, None] * variance)
    np.testing.assert_allclose(found.weights, coefficients[3:], rtol=1e-4)
    np.testing.assert_allclose(found.z, (coefficients / spread)[3:], rtol=1e-4)


def test_first_columns_are_a_corner_of_the_sums(regression):
    base, signals, targets = regression
    used = np.arange(200) < 150
    alone = Moments(lambda rows: base[rows, :2], targets, used)
    corner = Moments(lambda rows: base[rows], targets, used).first(2, lambda rows: base[rows, :2])
    for part, whole in ((alone.base, corner.base), (alone.left, corner.left)):
        np.testing.assert_allclose(whole, part, rtol=1e-9)
    np.testing.assert_allclose(corner.links(signals).z, alone.links(signals).z, rtol=1e-9)


def test_gain_is_of_cells_that_were_not_used(regression):
    base, signals, targets = regression
    used = np.arange(200) < 150
    moments = Moments(lambda rows: base[rows], targets, used)
    links = moments.links(signals)
    gain, baseline = moments.explained(~used, signals, links, links.weights)
    y = (targets.values.dense() - targets.mean) / targets.sd
    x = np.hstack([base, signals])
    errors = []
    for columns in (base, x):
        fit = np.linalg.lstsq(columns[used], y[used], rcond=None)[0]
        errors.append(((y[~used] - columns[~used] @ fit) ** 2).sum(axis=0) / (y[~used] ** 2).sum(axis=0))
    np.testing.assert_allclose(baseline, 1 - errors[0], rtol=1e-4)
    np.testing.assert_allclose(gain, errors[0] - errors[1], rtol=1e-3, atol=1e-6)


def test_weak_links_have_no_part(regression):
    base, signals, targets = regression
    links = Moments(lambda rows: base[rows], targets, np.ones(200, bool)).links(signals)
    threshold = 2 * np.log(np.e)
    links = links._replace(z=np.sqrt(threshold) * np.array([[0.9, 1.1, -0.5, -10]] * 2))
    share = shrunk(links) / links.weights
    np.testing.assert_allclose(share, [[0, 1 - 1 / 1.21, 0, 0.99]] * 2, atol=1e-9)


def test_pvalues_are_shares_of_links_of_both_signs():
    found = pooled_pvalues(np.array([[2.0, -2.5, 9.0]]), np.array([[[1.0, -2.0, 3.0]], [[-0.5, 0.1, 0.2]]]))
    np.testing.assert_allclose(found, [[3 / 7, 2 / 7, 1 / 7]])


def test_a_complex_has_the_amount_of_its_scarcest_subunit(rng):
    counts = rng.poisson(3.0, (20, 3))
    found = amounts(np.log1p(counts.astype(np.float64)), ((0,), (1, 2)))
    np.testing.assert_allclose(found, np.stack([counts[:, 0], counts[:, 1:].min(axis=1)], axis=1), atol=1e-12)
