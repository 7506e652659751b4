"""What ``dbx.optimize`` can be told to improve: values that name the slots they read."""

from __future__ import annotations

from dataclasses import dataclass, field

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class CrossEntropy:
    """How well labels of cells are told from an embedding, by a logistic regression that is trained with it.

    Parameters
    ----------
    label
        Column of ``obs`` with the labels; cells without one (missing) take no part.
    slot
        Slot of the embedding, such as ``"obsm/X_pca_harmony"``; by default what the last trained step writes for cells.
    """

    label: str
    slot: str | None = field(default=None, kw_only=True)


def cross_entropy(logits, codes):
    """Negative log-probability of each cell's label, an array of shape (n_cells,); 0 for a code of -1.

    Parameters
    ----------
    logits
        Array of shape (n_cells, n_labels).
    codes
        Array of shape (n_cells,), int.
    """
    of_label = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(codes, 0)[:, None], axis=1)[:, 0]
    return jnp.where(codes < 0, 0, -of_label)
