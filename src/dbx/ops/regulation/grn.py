"""Gene regulatory networks from the expression of single cells."""

from __future__ import annotations

import json
from typing import ClassVar, Literal

import numpy as np

from dbx._warnings import warn
from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library
from dbx.ops.checks import check_known, check_whole, check_whole_or_auto
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Text, silent, text_of
from dbx.ops.regulation.attention import attention_network
from dbx.ops.regulation.boosting import agreed, boosted_network
from dbx.ops.regulation.correlation import correlation_network
from dbx.ops.regulation.edge_list import EdgeList, joined
from dbx.ops.regulation.panel import TINY, Network, Panel
from dbx.ops.regulation.partial import best_shrinkage, partial_correlations, partial_network
from dbx.ops.regulation.repeats import Method, mean_jaccard, mean_network, null_pvalues, top_edges
from dbx.ops.regulation.trees import tree_network
from dbx.ops.values import Array, Codes, Frame

ENSEMBLES = ("forest", "boosted", "both")
METHODS = ("trees", "correlation", "partial", "gatv2")
SEEDED = ("trees", "gatv2")
"""Methods of which another seed gives another network."""
FEWEST_CELLS = 10
TABLE = Output(axis="none", dtype=None, view=True, inference=True)


class GRN(Operator):
    """Edges from regulators to targets, by trees, rank correlations, partial correlations or attention.

    ``regulators`` and ``targets`` are column numbers. A network is computed for each group of cells, or one for all of
    them. The further seeds of a method that does not draw anything resample the cells. With ``method="partial"``
    :meth:`weights` is a differentiable function of expression.

    New cells: the network is kept; :func:`dbx.tl.grn_activity` gives them the activity of its regulators.
    """

    name = "grn"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("log", "scaled", "normalized", "fractional"), of_fitted_cells=True),
        "groups": Input(kind="codes", missing=True, optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {"edges": TABLE, "jaccard": TABLE}
    result = "edges"
    unlisted: ClassVar = frozenset({"regulators", "targets"})

    def __init__(
        self,
        *,
        regulators: tuple[int, ...],
        targets: tuple[int, ...] | None = None,
        method: str = "trees",
        ensemble: str = "forest",
        n_estimators: int | Literal["auto"] = "auto",
        n_seeds: int = 1,
        n_perms: int = 0,
        top: int | None = None,
    ):
        check_known(method, METHODS, "method")
        check_known(ensemble, ENSEMBLES, "ensemble")
        if ensemble != "forest" and method != "trees":
            msg = f'ensemble={ensemble!r} is of method="trees"; the method is {method!r}.'
            raise ValueError(msg)
        check_whole_or_auto(n_estimators, 1, "n_estimators")
        check_whole(n_seeds, 1, "n_seeds")
        check_whole(n_perms, 0, "n_perms")
        check_whole(1 if top is None else top, 1, "top")
        self.regulators, self.targets, self.method = regulators, targets, method
        self.ensemble = ensemble
        self.n_estimators, self.n_seeds, self.n_perms, self.top = n_estimators, n_seeds, n_perms, top

    def fit(self, *, x: RowBlocks, groups: Codes | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Compute the network of each group."""
        levels = ("",) if groups is None else groups.levels
        codes = np.zeros(x.n_rows, np.int32) if groups is None else np.asarray(groups.codes)
        present = [i for i in range(len(levels)) if (codes == i).any()]
        for i in present:
            _check_cells((codes == i).sum(), levels[i])
        networks = [self._network(x, np.flatnonzero(codes == i), levels[i], seed, progress) for i in present]
        edges = joined([one for one, _ in networks])
        self.genes, self.sign = Constant(edges.genes), Constant(edges.sign)
        self.importance = Constant(edges.importance)
        self.stability, self.pvalue = Constant(edges.stability), Constant(edges.pvalue)
        self.n_edges = Constant(np.array([len(one.sign) for one, _ in networks]))
        self.shared = Constant(np.array([shared for _, shared in networks]))
        self.group_names = Text(json.dumps([] if groups is None else [levels[i] for i in present]))

    def _network(
        self, x: RowBlocks, rows: np.ndarray, group: str, seed: int, progress: Progress
    ) -> tuple[EdgeList, float]:
        """The edges of a group of cells, and how many of the first ones two seeds share."""
        targets = np.arange(x.n_columns) if self.targets is None else np.asarray(self.targets, np.intp)
        panel = Panel.of(x.dense(rows), np.asarray(self.regulators, np.intp), targets)
        _check_genes(panel, group)
        method, rng = self._method(progress), np.random.default_rng(seed)
        seeded = self.method in SEEDED
        further = [method(panel if seeded else panel.resampled(rng), seed + i) for i in range(1, self.n_seeds)]
        networks = [method(panel, seed), *further]
        network = mean_network(networks) if seeded else networks[0]
        tops = [top_edges(one.importance, self.top or 2 * len(targets)) for one in networks]
        several = self.n_seeds > 1
        edges = EdgeList.of(
            network,
            panel,
            stability=np.mean(tops, axis=0) if several else None,
            pvalues=self._pvalues(network, panel, method, rng) if self.n_perms else None,
            top=self.top,
        )
        return edges, mean_jaccard(tops) if several else np.nan

    def _pvalues(self, network: Network, panel: Panel, method: Method, rng: np.random.Generator) -> np.ndarray:
        """p-values; the null distribution of partial correlations is that with the same shrinkage."""
        null = method
        if self.method == "partial":
            shrinkage = float(best_shrinkage(panel.values))
            null = lambda panel, seed: partial_network(panel, shrinkage=shrinkage)  # noqa: E731
        return null_pvalues(network.importance, panel, null, self.n_perms, rng)

    def _method(self, progress: Progress) -> Method:
        if self.method == "trees":
            return lambda panel, seed: self._trees(panel, seed, progress)
        if self.method == "gatv2":
            return lambda panel, seed: attention_network(panel, seed=seed, progress=progress)
        network = correlation_network if self.method == "correlation" else partial_network
        return lambda panel, seed: network(panel)

    def _trees(self, panel: Panel, seed: int, progress: Progress) -> Network:
        kinds = {"forest": (tree_network,), "boosted": (boosted_network,), "both": (tree_network, boosted_network)}
        found = [
            trees(panel, n_estimators=self.n_estimators, seed=seed, progress=progress) for trees in kinds[self.ensemble]
        ]
        return agreed(*found) if len(found) == 2 else found[0]

    def weights(self, x: Array) -> Array:
        """Partial correlations of all edges as a differentiable function of expression: (n_regulators, n_targets).

        They are the importances with signs of one network for all cells of ``x``, with the genes of the fit. Trees and
        ranks have no gradient, and attention is trained: another ``method`` is a ValueError.
        """
        if self.method != "partial":
            msg = (
                f'Only method="partial" has weights that are a function of expression; this network is {self.method!r}.'
            )
            raise ValueError(msg)
        xp = array_library(x)
        regulators = np.asarray(self.regulators, np.intp)
        targets = np.arange(x.shape[1]) if self.targets is None else np.asarray(self.targets, np.intp)
        centred = x - x.mean(axis=0)
        variance = (centred**2).mean(axis=0)
        varies = variance > TINY**2
        values = xp.where(varies, centred / xp.sqrt(xp.where(varies, variance, 1)), 0)
        found = partial_correlations(values)[regulators][:, targets]
        return xp.where(regulators[:, None] == targets, 0, found)

    @property
    def edges(self) -> Frame:
        """One row for each edge, of every group the most important first."""
        names, n_edges = tuple(json.loads(text_of(self.group_names))), np.asarray(self.n_edges[...])
        regulator, target = np.asarray(self.genes[...], np.intp)
        columns: dict[str, np.ndarray | Codes] = {"TF": regulator, "target": target}
        columns["importance"] = np.asarray(self.importance[...])
        columns["sign"] = np.asarray(self.sign[...], np.int64)
        columns["rank"] = np.concatenate([np.arange(1, n + 1) for n in n_edges])
        columns["stability"], columns["pvalue"] = np.asarray(self.stability[...]), np.asarray(self.pvalue[...])
        if names:
            columns["group"] = Codes(np.repeat(np.arange(len(names), dtype=np.int32), n_edges), names)
        return Frame(columns, rows=None, of_genes=("TF", "target"))

    @property
    def jaccard(self) -> np.ndarray:
        """Edges that the networks of two seeds share among the first ones, as a fraction, for each group."""
        if self.n_seeds == 1:
            msg = "Networks are compared where there are several seeds."
            raise AttributeError(msg)
        return np.asarray(self.shared[...])


def _check_cells(n_cells: int, group: str) -> None:
    if n_cells < FEWEST_CELLS:
        few = f"the group {group!r} has {n_cells}. Merge groups, or remove it" if group else f"the data have {n_cells}"
        msg = f"A network needs at least {FEWEST_CELLS} cells; {few}."
        raise ValueError(msg)


def _check_genes(panel: Panel, group: str) -> None:
    """Refuse regulators or targets that are all constant, and warn of some that are."""
    constant = np.asarray(~panel.values.any(axis=0))
    where = f" in the group {group!r}" if group else ""
    for genes, what in ((panel.regulators, "regulators"), (panel.targets, "targets")):
        if constant[genes].all():
            msg = f"All {len(genes)} {what} have the same value in every cell{where}: there is nothing to explain."
            raise ValueError(msg)
    if constant.any() and not group:  # in a small group it is usual
        msg = f"{constant.sum()} genes have the same value in every cell: they have no edges."
        warn(msg)
