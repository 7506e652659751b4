"""Ligands and receptors of groups of cells, tested pair by pair."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np

from dbx._warnings import warn
from dbx.data.blocks import RowBlocks
from dbx.ops.checks import check_above_zero, check_share, check_whole, listed
from dbx.ops.differential.false_discovery import false_discovery_rates
from dbx.ops.differential.group_moments import Moments, group_moments
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Text, silent, text_of
from dbx.ops.signalling.analytic import analytic_pvalues, pair_columns
from dbx.ops.signalling.complexes import Complexes
from dbx.ops.signalling.pair_moments import gene_moments
from dbx.ops.signalling.permuted import Draws, permuted_pvalues
from dbx.ops.signalling.specific import (
    largest_pvalues,
    log_fold_changes,
    one_sided_pvalues,
    pair_scores,
    standardised_changes,
)
from dbx.ops.signalling.touching import contacts, local_scores
from dbx.ops.values import Array, Codes, Frame

FEW_CELLS = 100
"""In smaller groups the mean of a gene that few cells express is too discrete for a continuous distribution."""
MORE = 10
"""Times ``n_perms`` draws for these groups."""
FALSE = 0.05
"""False discovery rate at which a gene counts as raised in a group."""


class LigandReceptor(Operator):
    """Pairs of a ligand of one group of cells and a receptor of another.

    ``pvalue_specific`` tests that the ligand is raised in the sender and every subunit of the receptor in the receiver:
    the largest of one-sided rank tests. ``cellphone_pvals`` is CellPhoneDB's, for the mean of ligand and receptor under
    permuted labels: from the moments of all permutations (``analytic``), of groups below 100 cells by draws.
    ``pvalue_spatial`` is for the sum of ligand times receptor over touching cells under positions permuted within
    groups. A complex is as abundant as its weakest subunit. ``ligand_columns`` and ``receptor_columns`` are the column
    numbers of the subunits of ``ligands`` and ``receptors``; values are log(1 + amount) to ``base``, by default e.

    New cells: not tested; the reference's table is kept (a new test with ``refit=True``).
    """

    name = "ligrec"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("log",)),
        "labels": Input(kind="codes", missing=True),
        "points": Input(optional=True),
    }
    outputs: ClassVar = {"table": Output(axis="none", dtype=None, view=True, inference=True)}
    precision = "float64"
    unlisted = frozenset({"ligands", "receptors", "ligand_columns", "receptor_columns"})

    def __init__(
        self,
        *,
        ligands: tuple[str, ...] = (),
        receptors: tuple[str, ...] = (),
        ligand_columns: tuple[tuple[int, ...], ...] = (),
        receptor_columns: tuple[tuple[int, ...], ...] = (),
        expr_prop: float = 0.1,
        min_cells: int = 5,
        n_perms: int = 1000,
        analytic: bool = True,
        radius: float | None = None,
        n_neighs: int = 6,
        base: float | None = None,
    ):
        check_share(expr_prop, "expr_prop")
        check_whole(min_cells, 2, "min_cells")
        check_whole(n_perms, 1, "n_perms")
        check_whole(n_neighs, 1, "n_neighs")
        if radius is not None:
            check_above_zero(radius, "radius")
        if base is not None:
            _check_base(base)
        self.ligands, self.receptors = ligands, receptors
        self.ligand_columns, self.receptor_columns = ligand_columns, receptor_columns
        self.expr_prop = expr_prop
        self.min_cells = min_cells
        self.n_perms = n_perms
        self.analytic = analytic
        self.radius = radius
        self.n_neighs = n_neighs
        self.base = base

    def fit(
        self,
        *,
        x: RowBlocks,
        labels: Codes,
        points: RowBlocks | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Test every pair of groups that express ligand and receptor; ``points`` are the positions of the cells."""
        groups, codes = self._groups(labels)
        self.group_names = Text(json.dumps(groups))
        moments = group_moments(x, codes, len(groups))
        rank = one_sided_pvalues(x, codes, moments)
        self.mean, self.share = Constant(moments.mean), Constant(moments.fraction)
        self.change, self.rank_pvalue = Constant(standardised_changes(moments)), Constant(rank)
        self.fold_change = Constant(log_fold_changes(x, codes, len(groups), self.base))
        ligands, receptors = self.sides
        expressed = np.minimum(ligands.least(moments.fraction)[:, None], receptors.least(moments.fraction)[None])
        tested = (expressed >= self.expr_prop) & (expressed > 0)
        if not tested.any():
            msg = (
                f"No ligand and receptor are expressed by expr_prop={self.expr_prop:g} of the cells of a group: lower "
                "expr_prop."
            )
            raise ValueError(msg)
        order = self._order(tested)
        self.rows = Constant(order.astype(np.int32))
        pvalue = self._label_pvalues(x, codes, moments, seed, progress)
        self.label_pvalue = Constant(pvalue.ravel()[order])
        if points is not None:
            cells = np.flatnonzero(codes >= 0)
            found = contacts(points.dense(cells), codes[cells], len(groups), radius=self.radius, n_neighs=self.n_neighs)
            n_perms = 0 if self.analytic else self.n_perms
            local = local_scores(
                x, cells, found, moments.mean, ligands, receptors, n_perms=n_perms, seed=seed, progress=progress
            )
            self.spatial_score = Constant(local.z.ravel()[order])
            self.spatial_pvalue = Constant(local.pvalue.ravel()[order])

    @property
    def sides(self) -> tuple[Complexes, Complexes]:
        """Ligands and receptors of the pairs."""
        return Complexes.of(self.ligand_columns), Complexes.of(self.receptor_columns)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that are tested."""
        return tuple(json.loads(text_of(self.group_names)))

    @property
    def share_raised(self) -> float:
        """Share of the genes and groups of which the gene is raised in the group."""
        return float((false_discovery_rates(np.ravel(self.rank_pvalue[...])) < FALSE).mean())

    def scores(self, x: Array, codes: Array) -> Array:
        """``score`` of all triples as a differentiable function of the expression, an array (sender, receiver, pair).

        ``codes`` number the groups of :attr:`groups`, -1 for other cells.
        """
        return pair_scores(x, codes, len(self.groups), *self.sides)

    @property
    def table(self) -> Frame:
        """One row for each tested sender, receiver, ligand and receptor, the most specific first."""
        shape = (len(self.groups), len(self.groups), len(self.ligands))
        sender, receiver, pair = np.unravel_index(np.asarray(self.rows[...]), shape)
        ligands, receptors = self.sides

        def of_ligand(values):
            return ligands.least(np.asarray(values[...]))[sender, pair]

        def of_receptor(values):
            return receptors.least(np.asarray(values[...]))[receiver, pair]

        mean, fold_change = np.asarray(self.mean[...]), np.asarray(self.fold_change[...])
        ligand, receptor = of_ligand(mean), of_receptor(mean)
        of_sender = fold_change[sender, ligands.weakest(mean)[sender, pair]]
        of_receiver = fold_change[receiver, receptors.weakest(mean)[receiver, pair]]
        specific = self._specific(sender, receiver, pair)
        columns: dict[str, np.ndarray | Codes] = {
            "source": Codes(sender, self.groups),
            "target": Codes(receiver, self.groups),
            "ligand_complex": _named(self.ligands, pair),
            "receptor_complex": _named(self.receptors, pair),
            "ligand_means": ligand,
            "receptor_means": receptor,
            "ligand_props": of_ligand(self.share),
            "receptor_props": of_receptor(self.share),
            "lr_means": (ligand + receptor) / 2,
            "ligand_logfc": of_sender,
            "receptor_logfc": of_receiver,
            "lr_logfc": (of_sender + of_receiver) / 2,
            "cellphone_pvals": np.asarray(self.label_pvalue[...]),
            "pvalue_specific": specific,
            "padj_specific": false_discovery_rates(specific),
            "score": of_ligand(self.change) + of_receptor(self.change),
        }
        if hasattr(self, "spatial_score"):
            columns["pvalue_spatial"] = np.asarray(self.spatial_pvalue[...])
            columns["score_spatial"] = np.asarray(self.spatial_score[...])
        return Frame(columns, rows=None)

    def _groups(self, labels: Codes) -> tuple[tuple[str, ...], np.ndarray]:
        """(names of the groups that are large enough, group of each cell or -1)."""
        codes = np.asarray(labels.codes)
        sizes = np.bincount(codes[codes >= 0], minlength=labels.n_levels)
        kept = np.flatnonzero(sizes >= self.min_cells)
        small = [labels.levels[i] for i in np.flatnonzero((sizes > 0) & (sizes < self.min_cells))]
        if len(kept) < 2:
            msg = (
                f"Ligands and receptors are compared between groups: two of min_cells={self.min_cells} cells or more "
                f"are needed; got {len(kept)} among {listed(labels.levels)}."
            )
            raise ValueError(msg)
        if small:
            warn(f"Groups of fewer than min_cells={self.min_cells} cells are left out: {listed(small)}.")
        number = np.full(labels.n_levels + 1, -1)
        number[kept] = np.arange(len(kept))
        return tuple(labels.levels[i] for i in kept), number[codes]

    def _specific(self, sender, receiver, pair) -> np.ndarray:
        rank = np.asarray(self.rank_pvalue[...])
        ligands, receptors = self.sides
        return np.maximum(ligands.most(rank)[sender, pair], receptors.most(rank)[receiver, pair])

    def _order(self, tested: np.ndarray) -> np.ndarray:
        """Flat numbers of the tested triples, the most specific first, ties by score."""
        ligands, receptors = self.sides
        change = np.asarray(self.change[...])
        score = ligands.least(change)[:, None] + receptors.least(change)[None]
        pvalue = largest_pvalues(np.asarray(self.rank_pvalue[...]), ligands, receptors)
        at = np.flatnonzero(tested)
        return at[np.lexsort((-score.ravel()[at], pvalue.ravel()[at]))]

    def _label_pvalues(self, x: RowBlocks, codes, moments: Moments, seed: int, progress: Progress) -> np.ndarray:
        used, sizes = codes >= 0, moments.n_cells.astype(int)
        mean = moments.n_cells @ moments.mean / sizes.sum()
        rng = np.random.default_rng(seed)
        if not self.analytic:
            draws = Draws(x, used, sizes, mean, whole=True)
            return permuted_pvalues(draws, moments.mean, *self.sides, self.n_perms, rng, progress=progress)
        of_genes = gene_moments(x, used, mean, pair_columns(*self.sides))
        pvalue = analytic_pvalues(of_genes, sizes, moments.mean, *self.sides)
        few = np.flatnonzero(sizes < FEW_CELLS)
        if len(few):
            draws = Draws(x, used, sizes, mean, whole=False)
            n_draws = MORE * self.n_perms
            drawn = permuted_pvalues(draws, moments.mean, *self.sides, n_draws, rng, groups=few, progress=progress)
            pvalue = np.where(np.isnan(drawn), pvalue, drawn)
        return pvalue


def _check_base(base: float) -> None:
    check_above_zero(base, "base")
    if base == 1:
        msg = "base is that of logarithms, such as 2 or 10; got 1."
        raise ValueError(msg)


def _named(names: tuple[str, ...], pair: np.ndarray) -> Codes:
    levels = tuple(dict.fromkeys(names))
    number = {name: i for i, name in enumerate(levels)}
    return Codes(np.array([number[name] for name in names])[pair], levels)
