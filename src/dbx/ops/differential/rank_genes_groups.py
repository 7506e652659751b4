"""Marker genes of groups of cells: Welch's t, Wilcoxon rank sums or logistic regression."""

from __future__ import annotations

import json
from contextlib import nullcontext

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import MAX_LISTED, check_known, listed
from dbx.ops.differential.false_discovery import false_discovery_rates
from dbx.ops.differential.group_moments import Moments, group_moments, others
from dbx.ops.differential.rank_sum import rank_sums
from dbx.ops.differential.two_samples import welch, wilcoxon
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Text, silent, text_of
from dbx.ops.values import Codes, GroupTable

METHODS = ("t-test", "t-test_overestim_var", "wilcoxon", "logreg")
CORRECTIONS = ("benjamini-hochberg", "bonferroni")
TINY = 1e-9
"""Keeps the ratio of two means finite; scanpy's value."""

TABLE = Output(axis="none", dtype=None, view=True, inference=True)


class RankGenesGroups(Operator):
    """Test every gene of each group against the other cells, or against one reference group.

    The tests are those of SciPy and scanpy: there is nothing to train, and new cells are not tested. One value is
    stored for each tested group and gene, in the order of the genes; the outputs are tables with a column for each
    group, sorted by its scores.
    """

    name = "rank_genes_groups"
    inputs = {"x": Input(genes=True), "labels": Input(kind="codes", missing=True)}
    outputs = dict.fromkeys(("names", "scores", "logfoldchanges", "pvals", "pvals_adj", "pts", "pts_rest"), TABLE)

    def __init__(
        self,
        *,
        method: str = "t-test",
        groups: tuple[str, ...] | None = None,
        reference: str = "rest",
        n_genes: int | None = None,
        rankby_abs: bool = False,
        fractions: bool = False,
        corr_method: str = "benjamini-hochberg",
        tie_correct: bool = False,
        base: float | None = None,
        mean_in_log_space: bool = True,
        options: str = "{}",
    ):
        check_known(method, METHODS, "method")
        check_known(corr_method, CORRECTIONS, "corr_method")
        given = list(json.loads(options))
        if given and method != "logreg":
            msg = f"method={method!r} takes no {', '.join(map(repr, given))}; only 'logreg' takes further arguments."
            raise TypeError(msg)
        self.method = method
        self.groups = groups  # None takes every level there is at the fit
        self.reference = reference
        self.n_genes = n_genes
        self.rankby_abs = rankby_abs
        self.fractions = fractions
        self.corr_method = corr_method
        self.tie_correct = tie_correct
        self.base = base
        self.mean_in_log_space = mean_in_log_space
        self.options = options

    def fit(self, *, x: RowBlocks, labels: Codes, seed: int = 0, progress: Progress = silent) -> None:
        """Test every gene; ``x`` holds log-normalised values, ``labels`` the group of each cell."""
        groups = chosen_groups(self.groups, self.reference, labels)
        self.group_names = Text(json.dumps(groups))
        against = None if self.reference == "rest" else groups.index(self.reference)
        codes = codes_among(groups, labels, others_too=against is None)
        if self.method == "logreg":
            self.score = Constant(self._regression(x, labels, codes))
            return
        n_groups = len(groups) + (against is None)
        moments = group_moments(x, codes, n_groups, transform=None if self.mean_in_log_space else self._expm1)
        rest = others(moments) if against is None else Moments(*(part[[against]] for part in moments))
        tested = np.array([g for g in range(len(groups)) if g != against])
        group = Moments(*(part[tested] for part in moments))
        rest = Moments(*(part[tested] for part in rest)) if against is None else rest
        if self.method == "wilcoxon":
            sums, ties = rank_sums(x, codes, n_groups, reference=against, stored=moments.nonzero.sum(axis=0))
            score, pvalue = wilcoxon(
                sums[tested], ties[tested] if against is not None else ties, group, rest, tie_correct=self.tie_correct
            )
        else:
            score, pvalue = welch(group, rest, overestimate=self.method == "t-test_overestim_var")
        self.score, self.pvalue = Constant(score), Constant(pvalue)
        self.fold_change = Constant(self._fold_change(group.mean, rest.mean))
        if self.fractions:
            self.fraction = Constant(moments.fraction[: len(groups)])
            if against is None:
                self.fraction_rest = Constant(rest.fraction)

    @property
    def _all_groups(self) -> tuple[str, ...]:
        """Names of the groups, the reference among them; a program of schema 1 has them in place of its setting."""
        if hasattr(self, "group_names"):
            return tuple(json.loads(text_of(self.group_names)))
        assert self.groups is not None  # else ``fit`` stored the names
        return self.groups

    @property
    def tested(self) -> tuple[str, ...]:
        """Names of the groups in the tables."""
        if self.method == "logreg":
            return self._all_groups[:1] if len(self._all_groups) == 2 else self._all_groups
        return tuple(group for group in self._all_groups if group != self.reference)

    @property
    def order(self) -> np.ndarray:
        """Numbers of the genes, best first, an array of shape (n_tested, n_genes)."""
        score = np.asarray(self.score.get_value())
        n_genes = score.shape[1] if self.n_genes is None else min(self.n_genes, score.shape[1])
        return np.stack([top(np.abs(row) if self.rankby_abs else row, n_genes) for row in score])

    @property
    def names(self) -> GroupTable:
        """The genes, best first."""
        return GroupTable(self.tested, self.order, "values")

    @property
    def scores(self) -> GroupTable:
        """Statistics: t, z or coefficients of the regression."""
        return self._sorted(np.asarray(self.score.get_value()), np.float32)

    @property
    def logfoldchanges(self) -> GroupTable | None:
        """log2 of the ratio of the two means."""
        change = self._stored("fold_change")
        return None if change is None else self._sorted(change, np.float32)

    @property
    def pvals(self) -> GroupTable | None:
        """Two-sided p-values."""
        pvalue = self._stored("pvalue")
        return None if pvalue is None else self._sorted(pvalue)

    @property
    def pvals_adj(self) -> GroupTable | None:
        """p-values adjusted for the number of genes."""
        pvalue = self._stored("pvalue")
        return None if pvalue is None else self._sorted(self._adjusted(pvalue))

    @property
    def pts(self) -> GroupTable | None:
        """Fraction of each group's cells that express the gene."""
        fraction = self._stored("fraction")
        return None if fraction is None else GroupTable(self._all_groups, fraction, "rows")

    @property
    def pts_rest(self) -> GroupTable | None:
        """The same fraction among all other cells."""
        fraction = self._stored("fraction_rest")
        return None if fraction is None else GroupTable(self._all_groups, fraction, "rows")

    def _stored(self, attribute: str) -> np.ndarray | None:
        variable = getattr(self, attribute, None)
        return None if variable is None else np.asarray(variable.get_value())

    def _sorted(self, values: np.ndarray, dtype=np.float64) -> GroupTable:
        return GroupTable(self.tested, np.take_along_axis(values, self.order, axis=1).astype(dtype))

    def _adjusted(self, pvalue: np.ndarray) -> np.ndarray:
        if self.corr_method == "bonferroni":
            return np.minimum(pvalue * pvalue.shape[1], 1)
        return false_discovery_rates(pvalue)

    def _expm1(self, values: np.ndarray) -> np.ndarray:
        return np.expm1(values if self.base is None else values * np.log(self.base))

    def _fold_change(self, mean: np.ndarray, rest: np.ndarray) -> np.ndarray:
        if self.mean_in_log_space:
            mean, rest = self._expm1(mean), self._expm1(rest)
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN for means below zero, as scanpy's
            return np.log2((mean + TINY) / (rest + TINY))

    def _regression(self, x: RowBlocks, labels: Codes, codes: np.ndarray) -> np.ndarray:
        from sklearn.linear_model import LogisticRegression
        from threadpoolctl import threadpool_limits

        if len(self._all_groups) == 1:
            msg = f"Logistic regression needs two groups or more; got only {self._all_groups[0]!r}."
            raise ValueError(msg)
        used = np.flatnonzero((codes >= 0) & (codes < len(self._all_groups)))
        model, values = LogisticRegression(**json.loads(self.options)), x.rows(used)
        # sparse products run in one thread, and more threads only slow down the short vectors of L-BFGS
        with threadpool_limits(1, "blas") if sparse.issparse(values) else nullcontext():
            model.fit(values, np.asarray(labels.codes)[used])
        if len(self._all_groups) == 2:
            return model.coef_[:1]
        order = [labels.levels.index(group) for group in self._all_groups]
        return model.coef_[np.searchsorted(model.classes_, order)]


def chosen_groups(groups: tuple[str, ...] | None, reference: str, labels: Codes) -> tuple[str, ...]:
    """Names of the groups to test, the reference among them.

    Raises
    ------
    ValueError
        A group does not exist, or has a single cell.
    """
    names = labels.levels if groups is None else tuple(dict.fromkeys(groups))
    if reference != "rest" and reference not in names:
        names = (*names, reference)
    unknown = [name for name in names if name not in labels.levels]
    if unknown:
        msg = f"There is no group {listed(unknown)}; there are {listed(labels.levels)}."
        raise ValueError(msg)
    sizes = np.bincount(labels.codes[labels.codes >= 0], minlength=labels.n_levels)
    single = [name for name in names if sizes[labels.levels.index(name)] < 2]
    if single:
        raise ValueError(_of_single_cells(single, [name for name in names if name not in single]))
    return names


def _of_single_cells(single: list[str], rest: list[str]) -> str:
    """What to do about groups of one cell, with the ``rest`` of the groups."""
    many = len(single) > 1
    what = f"{len(single)} groups, {listed(single)}, have" if many else f"Group {listed(single)} has"
    them, others = ("them", "others") if many else ("it", "another")
    short = repr(rest) if len(rest) <= MAX_LISTED else f"[...], the {len(rest)} others"
    leave = f"leave {them} out with groups={short}, or " if rest else ""
    return f"{what} a single cell, and a test needs two or more: {leave}merge {them} with {others}."


def codes_among(groups: tuple[str, ...], labels: Codes, *, others_too: bool) -> np.ndarray:
    """Each cell's number among ``groups``; other cells get the next number, or -1."""
    number = np.full(labels.n_levels + 1, len(groups) if others_too else -1)
    number[[labels.levels.index(group) for group in groups]] = np.arange(len(groups))
    return number[np.asarray(labels.codes)]


def top(scores: np.ndarray, n_top: int) -> np.ndarray:
    """Numbers of the highest scores, highest first; ties in the order of NumPy's partition, as in scanpy."""
    best = np.argpartition(scores, -n_top)[-n_top:]
    return best[np.argsort(scores[best])[::-1]]
