"""``CellAssign``: its likelihood beside scipy, planted folds and batch effects, what nothing marks."""

import jax.numpy as jnp
import numpy as np
import pytest
from annotators import accuracy, annotated, inputs, planted
from scipy import special, stats

from dbx.data import RowBlocks
from dbx.ops.annotation.cellassign import CellAssign, Decay
from dbx.ops.state import rebuild, state_arrays

MARKERS = tuple(tuple(range(10 * k, 10 * k + 10)) for k in range(3))
TYPES = ("a", "b", "c")


@pytest.fixture(scope="module")
def data():
    return planted(depths=(1500, 300))


@pytest.fixture(scope="module")
def trained(data):
    operator = CellAssign(classes=TYPES, markers=MARKERS, max_epochs=150)
    operator.fit(**inputs(data))
    return operator


def test_planted_kinds_are_found_without_labels(data, trained):
    found = annotated(trained, data)
    assert accuracy(found, data, np.ones(300, bool)) > 0.95
    assert found["labels"].levels == (*TYPES, "Unassigned")
    assert found["probabilities"].shape == (300, 4)


def test_folds_of_markers_are_those_planted(trained):
    model = trained.model
    fold = np.log(2) + np.exp(np.asarray(model.excess[...]))
    marked = fold[np.asarray(model.marks[...]) > 0]
    # planted: 5, less what normalising each profile takes off
    assert np.median(marked) == pytest.approx(np.log(5), abs=0.25)


def test_posterior_is_bayes_rule_with_scipys_density(data, trained):
    a = {name: np.asarray(array, float) for name, (_, array) in state_arrays(trained).items()}
    x = data["counts"].toarray().astype(float)
    level = np.log(x.sum(axis=1) / a["size"])[:, None] + a["model.base"]
    mean = np.exp(level[:, :, None] + a["model.marks"] * (np.log(2) + np.exp(a["model.excess"])))
    centres = a["model.centres"]
    bumps = np.exp(-0.5 * ((np.log1p(mean)[..., None] - centres) / (centres[1] - centres[0])) ** 2)
    theta = (np.exp(a["model.log_bumps"]) * bumps).sum(axis=-1) + 1e-2
    logs = stats.nbinom.logpmf(x[:, :30, None], theta, theta / (theta + mean)).sum(axis=1)
    joint = logs + special.log_softmax(a["model.logits"])
    found = annotated(trained, data)
    np.testing.assert_allclose(found["probabilities"], special.softmax(joint, axis=1), atol=2e-3)
    np.testing.assert_allclose(found["confidence"], found["probabilities"].max(axis=1))
    loss = -(special.logsumexp(joint, axis=1) + special.gammaln(x[:, :30] + 1).sum(axis=1)).mean()
    loss += float(trained.model.penalty()) / 300
    assert trained.history["loss"][-1] == pytest.approx(loss, rel=1e-3)


def test_what_nothing_marks_is_unassigned(data):
    keep = data["kind"] != 2
    cells = {**data, "counts": data["counts"]}
    operator = CellAssign(classes=TYPES[:2], markers=MARKERS[:2], max_epochs=150)
    operator.fit(**inputs(cells))
    codes = np.asarray(annotated(operator, cells)["labels"].codes)
    assert (codes == data["kind"])[keep].mean() > 0.95
    assert (codes[~keep] == 2).mean() > 0.9  # "Unassigned" comes third here
    forced = CellAssign(classes=TYPES[:2], markers=MARKERS[:2], other=False, max_epochs=150)
    forced.fit(**inputs(cells))
    assert annotated(forced, cells)["probabilities"].shape == (300, 2)


def test_effects_of_batches_are_taken_out(data):
    """A batch in which the markers of one kind are six times as high passes them for that kind, unless it is told."""
    counts = data["counts"].toarray()
    rng, second = np.random.default_rng(0), np.asarray(data["batch"].codes) == 1
    counts[np.ix_(second, MARKERS[0])] = rng.poisson(6 * counts[np.ix_(second, MARKERS[0])])
    shifted = {**data, "counts": RowBlocks(counts).source}
    told = CellAssign(classes=TYPES, markers=MARKERS, max_epochs=150)
    told.fit(**inputs(shifted, "batch"))
    every = np.ones(300, bool)
    assert accuracy(annotated(told, shifted, "batch"), data, every) > 0.93
    shift = np.diff(np.asarray(told.model.batch[...]), axis=0)[0]
    # beside the other genes, whose share of the total fell; the prior and zeros, which stay zeros, shrink it
    assert np.median(shift[:10]) - np.median(shift[10:]) == pytest.approx(np.log(6), abs=0.35)
    # an unknown batch has the mean effect: as if both were halfway
    unknown = told(jnp.asarray(counts[:5]))
    assert np.isfinite(unknown["probabilities"]).all()


def test_configuration_and_arrays_build_it_again(data, trained):
    again = rebuild(CellAssign, trained.config, state_arrays(trained))
    one, two = annotated(trained, data), annotated(again, data)
    np.testing.assert_array_equal(one["probabilities"], two["probabilities"])
    twin = CellAssign(classes=TYPES, markers=MARKERS, max_epochs=150)
    twin.fit(**inputs(data))
    np.testing.assert_array_equal(one["probabilities"], annotated(twin, data)["probabilities"])
    np.testing.assert_allclose(Decay(10)(np.array([0, 5, 10])), [1, 1, 0.01])


def test_wrong_markers_are_told_in_words(data):
    with pytest.raises(ValueError, match="a list for each of at least two cell types"):
        CellAssign(classes=("a",), markers=((1,),))
    with pytest.raises(ValueError, match="'b' has no marker; use other=True"):
        CellAssign(classes=("a", "b"), markers=((1,), ()))
    with pytest.raises(ValueError, match="'Unassigned' is reserved for cells of no type"):
        CellAssign(classes=("a", "Unassigned"), markers=((1,), (2,)))
    with pytest.raises(ValueError, match="min_fold must be at least 1; got 0.5"):
        CellAssign(classes=TYPES, markers=MARKERS, min_fold=0.5)
    with pytest.raises(ValueError, match="max_epochs must be at least 1; got 0"):
        CellAssign(classes=TYPES, markers=MARKERS, max_epochs=0)
    counts = data["counts"].toarray()
    counts[:, :10] = 0
    with pytest.raises(ValueError, match="No marker of 'a' has a count"):
        CellAssign(classes=TYPES, markers=MARKERS).fit(x=RowBlocks(counts))
    counts[7] = 0
    with pytest.raises(ValueError, match=r"1 cells have no counts in these genes \(the first is row 7\)"):
        CellAssign(classes=TYPES, markers=MARKERS).fit(x=RowBlocks(counts))
