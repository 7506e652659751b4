"""Networks of rank correlations."""

from __future__ import annotations

import numpy as np

from dbx.ops.regulation.panel import Network, Panel, standardised


def correlation_network(panel: Panel) -> Network:
    """Spearman's correlation of each regulator with each target; its absolute value is the importance."""
    found = spearman(panel)
    return Network(np.abs(found), np.sign(found).astype(np.int8))


def spearman(panel: Panel) -> np.ndarray:
    """Spearman's correlations, an array of shape (n_regulators, n_targets); 0 for constant genes and a gene itself."""
    from scipy.stats import rankdata

    ranks = standardised(rankdata(panel.values, axis=0))
    found = ranks[:, panel.regulators].T @ ranks[:, panel.targets] / panel.n_cells
    return np.where(panel.itself, 0, found)
