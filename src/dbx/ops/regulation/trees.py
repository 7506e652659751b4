"""Networks by a forest for each target: GENIE3."""

from __future__ import annotations

from typing import Literal

import numpy as np

from dbx.ops.operator import Progress, silent
from dbx.ops.regulation.bins import quantile_bins
from dbx.ops.regulation.forest import forest_importances
from dbx.ops.regulation.panel import Network, Panel

LEAF = 200
"""The smallest leaf has this fraction of the cells, at least ``FEWEST`` of them."""
FEWEST = 2
THIRD, MOST_TRIED = 3, 32
"""Regulators tried at each split: a third, as is usual for regression, but no more than so many."""
ROWS_AT_ONCE = 1 << 17
"""Cells of all trees that are grown at once, about 20 MB."""
ENOUGH = 400_000
"""Cells of all trees of a target, where the number of trees is not given."""
FEW, MANY = 50, 800
"""Trees of a target at least and at most, where their number is not given."""


def tree_network(
    panel: Panel, *, n_estimators: int | Literal["auto"] = "auto", seed: int = 0, progress: Progress = silent
) -> Network:
    """Importance of each regulator in a forest that predicts a target of variance 1 (Huynh-Thu et al., 2010).

    Of the two kinds of forest in the publication these are extremely randomised trees, with a third of the regulators
    tried at each split. The sign is that of the change of the target at the splits on a regulator: given the other
    regulators, unlike that of a correlation.
    """
    regulators, targets = panel.regulators, panel.targets
    bins = np.ascontiguousarray(quantile_bins(panel.values[:, regulators]))
    n_trees = number_of_trees(n_estimators, panel.n_cells)
    importance, directed = np.zeros((2, len(regulators), len(targets)))
    for number, column in enumerate(targets):
        features = np.flatnonzero(regulators != column)
        if len(features):
            rng = np.random.default_rng([seed, number])
            importance[:, number], directed[:, number] = _forest(bins, panel.values[:, column], features, n_trees, rng)
        progress(number + 1, len(targets), "targets")
    return Network(importance, np.sign(directed).astype(np.int8))


def number_of_trees(n_estimators: int | Literal["auto"], n_cells: int) -> int:
    """The number of trees that is asked for; by default more for few cells, which cost less and vary more."""
    return int(np.clip(ENOUGH // n_cells, FEW, MANY)) if n_estimators == "auto" else int(n_estimators)


def _forest(bins, target, features, n_trees: int, rng: np.random.Generator) -> np.ndarray:
    """Importances and their directions by some trees at a time, weighted by their number."""
    at_once = max(ROWS_AT_ONCE // len(bins), 1)
    total = np.zeros((2, bins.shape[1]))
    for start in range(0, n_trees, at_once):
        some = min(at_once, n_trees - start)
        total += some * forest_importances(
            bins,
            target,
            features,
            n_trees=some,
            n_tried=int(np.clip(len(features) // THIRD, 1, MOST_TRIED)),
            min_leaf=max(len(bins) // LEAF, FEWEST),
            rng=rng,
        )
    return total / n_trees
