"""Default epochs and minibatch sizes of networks, and the unit of distance of their weights."""

from __future__ import annotations

import numpy as np

FULL_EPOCHS_CELLS = 20_000
"""Number of cells above which there are proportionally fewer epochs."""


WARM_UP_EPOCHS = 1000
"""Longer than scVI's 400: a larger weight pulls cells with few counts, of whatever type, to the centre."""


WEIGHT_UNIT = 10**0.5
"""Chosen by the accuracy of held-out labels on STARmap: a tenth of the penalty on a squared distance."""


def default_epochs(n_cells: int, most: int = 400) -> int:
    """The rule of scVI: 400 epochs up to 20,000 cells, proportionally fewer above."""
    return max(round(most * min(FULL_EPOCHS_CELLS / n_cells, 1)), 1)


def warm_up(epochs_done: np.ndarray, n_cells: int = 1) -> np.ndarray:
    """Weight of the divergence: it rises to 1 over ``WARM_UP_EPOCHS``, or fewer if the default epochs are fewer."""
    return np.minimum(np.floor(epochs_done) * max(n_cells / FULL_EPOCHS_CELLS, 1) / WARM_UP_EPOCHS, 1)


def default_batch_size(n_cells: int) -> int:
    """A sixteenth of the cells, from 32 to 128."""
    return int(np.clip(n_cells // 16, 32, 128))
