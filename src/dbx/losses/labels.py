"""Objectives of labels of cells."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax
import jax.numpy as jnp

from dbx.losses.objectives import Cells, Objective


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


@dataclass(frozen=True, repr=False)
class CrossEntropy(Objective):
    """Cross-entropy of the labels of cells, predicted from an embedding by a logistic regression trained with it.

    Each label is weighted by the inverse square root of its number of cells.

    Parameters
    ----------
    label
        Column of ``obs`` with the labels; cells with a missing label are ignored.
    slot
        Slot of the embedding, such as ``"obsm/X_pca_harmony"``; by default what the last trained step writes for cells.
    """

    label: str
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "cross_entropy"
    labelled: ClassVar[bool] = True

    def of_cells(self, cells: Cells):
        """Weighted negative log-probability of each cell's label, in nats."""
        return cells.head.loss(cells.z, cells.read["label"])
