"""Edges of networks as columns, the most important first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dbx.ops.regulation.panel import Network, Panel


class EdgeList(NamedTuple):
    """Edges with an importance above 0, arrays of shape (n_edges,)."""

    genes: np.ndarray
    """Columns of regulator and target, an array of shape (2, n_edges), int32."""
    importance: np.ndarray
    sign: np.ndarray
    stability: np.ndarray
    """Fraction of the seeds with which the edge is among the first; NaN where there is one seed."""
    pvalue: np.ndarray
    """NaN where there are no permutations."""

    @classmethod
    def of(
        cls,
        network: Network,
        panel: Panel,
        *,
        stability: np.ndarray | None = None,
        pvalues: np.ndarray | None = None,
        top: int | None = None,
    ) -> EdgeList:
        """The first ``top`` edges of a network, by default all; equally important ones in the order of the genes."""
        order = np.argsort(-network.importance, axis=None, kind="stable")[:top]
        order = order[network.importance.ravel()[order] > 0]
        regulator, target = np.unravel_index(order, network.importance.shape)
        genes = np.stack([panel.regulators[regulator], panel.targets[target]]).astype(np.int32)
        unknown = np.full(len(order), np.nan, np.float32)
        return cls(
            genes,
            network.importance.ravel()[order],
            network.sign.ravel()[order],
            unknown if stability is None else stability.ravel()[order].astype(np.float32),
            unknown if pvalues is None else pvalues.ravel()[order].astype(np.float32),
        )


def joined(lists: Sequence[EdgeList]) -> EdgeList:
    """Edges of several networks below each other."""
    return EdgeList(*(np.concatenate(parts, axis=-1) for parts in zip(*lists, strict=True)))
