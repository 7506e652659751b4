"""Training on labels beside what is known before: the best epoch is kept, and only what helps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dbx.ops.operator import silent
from dbx.ops.sequence.embedding import SequenceEmbedding
from dbx.ops.sequence.fitting import How, Labelled, logits_of, train_labels

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
        np.testing.assert_array_equal(logits, 0)  # nothing is left to learn
        return
    loss = losses(logits[HELD_OUT] + rows.offset[HELD_OUT], rows.codes[HELD_OUT]).mean()
    judged = history["validation_loss"]
    assert 1 < history["kept"][0] == judged.argmin() + 1 < len(judged)
    np.testing.assert_allclose(loss, judged.min(), rtol=1e-4)
    assert loss < np.log(2)
