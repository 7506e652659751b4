"""What networks on sequences minimise: the cross-entropy of hidden bases, and of labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dbx.ops.sequence.ensemble import each
from dbx.ops.sequence.network import SequenceNetwork
from dbx.ops.sequence.sequences import soft_of

SHOWN_AS_HIDDEN, SHOWN_AS_ANOTHER = 0.8, 0.1
"""Shares of the chosen positions, as in BERT; the others are shown as they are."""


def classification(network: SequenceNetwork, batch: dict[str, jax.Array], key):
    """Cross-entropy of each sequence, the mean over members, times the weight of its label.

    ``offset`` are logits that a member's are added to.
    """
    soft, mask = soft_of(batch["sequences"], jnp.float32)
    logits = each(network, lambda member, own: member.classes(soft, mask, key=own), key) + batch["offset"]
    logs = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(logs, batch["label"][None, :, None], axis=-1)[..., 0]
    correct = (logits.mean(axis=0).argmax(axis=-1) == batch["label"]).astype(soft.dtype)
    return -chosen.mean(axis=0) * batch["weight"], {"accuracy": correct}


def masked_bases(network: SequenceNetwork, batch: dict[str, jax.Array], key, *, mask_rate):
    """Cross-entropy of the hidden bases of each sequence, their mean, averaged over members; never of padding."""
    soft, mask = soft_of(batch["sequences"], jnp.float32)
    training = key is not None
    key = jax.random.key(0) if key is None else key

    def one(member: SequenceNetwork, own):
        keys = jax.random.split(own, 3)
        known = mask & (soft.max(axis=-1) == 1)
        draws = member.of_tokens(jax.random.uniform(keys[0], (2, *mask.shape)))
        chosen = known & (draws[0] < mask_rate)
        hidden = chosen & (draws[1] < SHOWN_AS_HIDDEN)
        other = chosen & ~hidden & (draws[1] < SHOWN_AS_HIDDEN + SHOWN_AS_ANOTHER)
        base = jax.random.randint(keys[1], mask.shape, 0, 4)
        shown = jnp.where(other[..., None], jax.nn.one_hot(base, 4, dtype=soft.dtype), soft)
        logits = member.bases(shown, mask, hidden, key=keys[2] if training else None)
        n_chosen = jnp.maximum(chosen.sum(axis=-1), 1)
        loss = -((jax.nn.log_softmax(logits) * soft).sum(axis=-1) * chosen).sum(axis=-1) / n_chosen
        correct = ((logits.argmax(axis=-1) == soft.argmax(axis=-1)) & chosen).sum(axis=-1) / n_chosen
        return loss, correct

    losses, correct = each(network, one, key)
    return losses.mean(axis=0), {"masked_accuracy": correct.mean(axis=0)}
