"""How much each base speaks for a class: gradient times input."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.sequence.embedding_operator import SequenceOperator
from dbx.ops.sequence.sequences import soft_of


def saliency(operator: SequenceOperator, values: np.ndarray, target: int) -> np.ndarray:
    """Contribution of each base, array of shape (n_sequences, length, 4), 0 where it is another base.

    It is the derivative of the logit of a class (its distance from the mean of all), or of a column of the embedding,
    by the base, less the mean of the derivatives by all four bases there, times the base (Shrikumar et al., 2016;
    Majdandzic et al., Genome Biology, 2023). ``values`` are codes or distributions of the operator's length.
    """
    graphdef, state = nnx.split(operator)
    soft, slope = map(np.asarray, _slope(graphdef, state, values, target))
    return (slope - slope.mean(axis=2, keepdims=True)) * soft


@partial(jax.jit, static_argnums=0)
def _slope(graphdef, state, values, target) -> Any:
    operator = nnx.merge(graphdef, state)
    soft, mask = soft_of(values, jnp.float32)

    def score(soft):
        z, logits = operator.scores(soft, mask)
        found = z if logits is None else logits - logits.mean(axis=1, keepdims=True)
        return found[:, target].sum()

    return soft, jax.grad(score)(soft)
