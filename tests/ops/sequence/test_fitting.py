"""Training on labels beside what is known before: the best epoch is kept, and only what helps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dbx.data.text import as_bytes
from dbx.ops.operator import silent
from dbx.ops.sequence import embedding_operator, fitting, starts
from dbx.ops.sequence.embedding import SequenceEmbedding
from dbx.ops.sequence.fitting import How, Labelled, logits_of, train_labels
from dbx.ops.sequence.starts import copy_of, learn_from_both, report
from dbx.ops.values import Codes

LENGTH, HELD_OUT = 12, np.arange(0, 120, 4)


def network():
    """Drawn, with two classes."""
    operator = SequenceEmbedding(n_hidden=8, embedding_dim=8, n_layers=1, words=0, dropout=0.0)
    operator.length, operator.by_position, operator.classes = LENGTH, True, ("no", "yes")
    operator._reset(np.random.default_rng(0))
    return operator.network


def labelled(rng, offset: float) -> Labelled:
    """Mostly a third base of A or C is a yes, which the offset knows or not."""
    sequences = rng.integers(0, 4, (120, LENGTH)).astype(np.int8)
    codes = ((sequences[:, 2] < 2) ^ (rng.random(120) < 0.15)).astype(int)
    return Labelled(sequences, codes, np.ones(120), offset * (2.0 * np.eye(2)[codes] - 1), HELD_OUT)


def losses(logits, codes):
    return -np.asarray(jax.nn.log_softmax(jnp.asarray(logits)))[np.arange(len(codes)), codes]


@pytest.mark.parametrize("offset", [0.0, 10.0])
def test_the_best_epoch_is_kept_and_the_offset_is_counted(offset, rng):
    made, rows = network(), labelled(rng, offset)
    history = train_labels(made, rows, 12, How(32, 0.05, 0, silent))  # it overfits
    logits = logits_of(made, rows.sequences).mean(axis=0)
    if offset == 10:
        assert history["loss"].max() < 0.01  # nothing is left to learn
        np.testing.assert_array_equal(logits, 0)
        return
    loss = losses(logits[HELD_OUT] + rows.offset[HELD_OUT], rows.codes[HELD_OUT]).mean()
    judged = history["validation_loss"]
    assert 1 < history["kept"][0] == judged.argmin() + 1 < len(judged)
    np.testing.assert_allclose(loss, judged.min(), rtol=1e-4)
    assert loss < np.log(2)


@pytest.mark.parametrize(("by_chance", "n_wrong", "kept"), [(True, 1, False), (False, 1, True), (False, 0, False)])
def test_what_gains_by_chance_is_not_kept(by_chance, n_wrong, kept, rng, monkeypatch):
    """Nor what only makes surer where the regression has misclassified none: easy rows are no judges."""
    rows = labelled(rng, 0.1)
    rows.offset[HELD_OUT[:n_wrong]] *= -1
    worse = np.where(np.arange(len(HELD_OUT)) % 2, 1.0, -0.9) if by_chance else np.ones(len(HELD_OUT))
    gain = worse[:, None] * (2 * np.eye(2)[rows.codes[HELD_OUT]] - 1)
    monkeypatch.setattr(fitting, "logits_of", lambda network, sequences: gain[None])
    made = network()
    train_labels(made, rows, 12, How(32, 0.05, 0, silent))
    assert np.asarray(made.classify.kernel[...]).any() == kept


def test_a_start_is_kept_if_held_out_rows_gain_by_it(rng):
    """One start has learned the labels before, the other has not, and both learn them for an epoch."""
    rows, drawn, how = labelled(rng, 0.0), network(), How(32, 0.05, 0, silent)
    informed = copy_of(drawn)
    train_labels(informed, rows, 12, how)
    assert not np.asarray(drawn.classify.kernel[...]).any()  # the copy has parameters of its own

    def learn(made, rows):
        return train_labels(made, rows, 1, How(32, 1e-4, 0, silent))

    for pretrained, plain, verdict in ((informed, drawn, "pretrained kept"), (drawn, informed, "reverted")):
        first, second = copy_of(pretrained), copy_of(plain)
        kept, _, judged = learn_from_both(first, second, rows, learn)
        found = report(judged)
        assert found["verdict"] == verdict
        assert kept is (first if verdict == "pretrained kept" else second)
        loss = losses(logits_of(kept, rows.sequences).mean(axis=0)[HELD_OUT], rows.codes[HELD_OUT]).mean()
        both = found["validation_loss"]
        np.testing.assert_allclose(loss, min(both["pretrained"], both["plain"]), rtol=1e-5)


@pytest.mark.parametrize(
    ("gains", "n_wrong", "kept"), [((1.0, 1.1), 1, True), ((1.1, -1.0), 1, False), ((1.0, 1.1), 0, False)]
)
def test_a_start_that_gains_by_chance_is_not_kept(gains, n_wrong, kept, rng, monkeypatch):
    """A gain of 1.05 is sure where all rows have it; one of .05 is not where rows gain and lose 1; easy rows alone are
    no judges."""
    found = {"plain": (np.tile(gains, 15), np.arange(30) < n_wrong), "pretrained": (np.zeros(30), np.zeros(30, bool))}
    monkeypatch.setattr(starts, "on_held_out", lambda network, rows: found[network])
    network, history, judged = learn_from_both("pretrained", "plain", labelled(rng, 0.0), lambda name, rows: name)
    assert network == history == ("pretrained" if kept else "plain")
    said = report(judged)
    assert said["verdict"] == ("pretrained kept" if kept else "reverted")
    error = np.std(found["plain"][0], ddof=1) / np.sqrt(30)
    np.testing.assert_allclose(said["validation_loss"]["standard_error"], error, rtol=1e-6)
    np.testing.assert_allclose(said["misclassified"], n_wrong / 30, rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "judged"),
    [
        ({"pretrain_epochs": 1}, True),
        ({"pretrain_epochs": 1, "freeze_encoder": True}, False),
        ({"pretrain_epochs": 1, "validation": 0.0}, False),
        ({}, False),
    ],
)
def test_pretraining_is_judged_where_it_can_be(settings, judged, rng, monkeypatch):
    texts = as_bytes(["".join(row) for row in np.array(list("ACGT"))[rng.integers(0, 4, (40, LENGTH))]])
    labels, called = Codes(np.arange(40, dtype=np.int32) % 2, ("no", "yes")), []

    def learn(name):
        def stop(network, *others, **options):
            called.append(name)
            raise InterruptedError

        return stop

    monkeypatch.setattr(embedding_operator, "pretrain", lambda *args: np.zeros((2, 1), np.float32))
    monkeypatch.setattr(embedding_operator, "learn_from_both", learn("both"))
    monkeypatch.setattr(embedding_operator, "train_labels", learn("one"))
    with pytest.raises(InterruptedError):
        SequenceEmbedding(words=0, n_hidden=8, embedding_dim=8, n_layers=1, **settings).fit(text=texts, labels=labels)
    assert called == ["both" if judged else "one"]


@pytest.mark.parametrize("words", [2, 0])
def test_duplicates_are_on_one_side_of_each_split(words, rng, monkeypatch):
    """Of the folds that choose the penalty, and of the sequences that are held out from the network."""
    once = np.array(list("ACGT"))[rng.integers(0, 4, (40, LENGTH))]
    texts = as_bytes(["".join(row) for row in np.repeat(once, 3, axis=0)])
    labels = Codes(np.repeat(np.arange(40) % 2, 3).astype(np.int32), ("no", "yes"))
    seen = {}

    def split(problem_or_network, rows=None, *others, **options):
        sides = problem_or_network.folds if words else np.isin(np.arange(120), rows.held_out)
        seen["sides"] = sides.reshape(40, 3)
        raise InterruptedError

    monkeypatch.setattr(embedding_operator, "fit_words" if words else "train_labels", split)
    with pytest.raises(InterruptedError):
        SequenceEmbedding(words=words).fit(text=texts, labels=labels)
    assert (seen["sides"] == seen["sides"][:, :1]).all()
    assert len(np.unique(seen["sides"])) > 1
