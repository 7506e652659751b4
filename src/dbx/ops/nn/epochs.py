"""How long networks are trained, and in which units their weights move."""

from __future__ import annotations

import numpy as np

MANY_CELLS = 20_000
"""From here on there are fewer epochs, in proportion."""


WARM_UP_EPOCHS = 1000
"""Longer than scVI's 400: with more weight cells of few counts, whatever they are, are drawn together to the middle."""


WEIGHT_UNIT = 10**0.5
"""Chosen by the labels of held-out cells on STARmap: a tenth of the penalty on a squared distance."""


def default_epochs(n_cells: int, most: int = 400) -> int:
    """The rule of scVI: 400 epochs up to 20,000 cells, fewer in proportion beyond."""
    return max(round(most * min(MANY_CELLS / n_cells, 1)), 1)


def warm_up(epochs_done: np.ndarray, n_cells: int = 1) -> np.ndarray:
    """Weight of the divergence: it rises to 1 over ``WARM_UP_EPOCHS``, fewer where the default epochs are fewer."""
    return np.minimum(np.floor(epochs_done) * max(n_cells / MANY_CELLS, 1) / WARM_UP_EPOCHS, 1)


def default_batch_size(n_cells: int) -> int:
    """A sixteenth of the cells, from 32 to 128."""
    return int(np.clip(n_cells // 16, 32, 128))
