"""Genes whose distribution differs between two conditions, and how."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import special

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import check_known, check_whole
from dbx.ops.differential.false_discovery import false_discovery_rates
from dbx.ops.distribution.classes import ALPHA, CATEGORIES, categories, class_probabilities
from dbx.ops.distribution.comparison import STATISTICS, Compared, Comparison
from dbx.ops.distribution.fitted_mixtures import FittedMixtures
from dbx.ops.distribution.gene_blocks import Facts, detection, gene_blocks, gene_facts, two_groups
from dbx.ops.distribution.hypotheses import DE, EP, Hypotheses, fit_hypotheses
from dbx.ops.distribution.permutations import permuted_labels
from dbx.ops.distribution.samples import gathered, sample_width, scaled_sample
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Text, silent, text_of
from dbx.ops.values import Array, Codes, Frame

TOGETHER = 2048
"""Genes whose mixtures are fitted together, or somewhat more."""
TABLE = Output(axis="none", dtype=None, view=True, inference=True)


class DifferentialDistribution(Operator):
    """Genes whose distribution differs between two conditions, in which of scDD's ways, and the mixtures behind it.

    Normal mixtures of the non-zero values are fitted to all cells and, of genes that differ at a false discovery rate
    of 5%, to both conditions: with the same components and other shares, with a component that one condition lacks, and
    separately. The class is that of the mixture with the most evidence.

    New cells: not tested (a new test with ``refit=True``); they get the probability of each condition by the densities
    of their values under the reference's mixtures of the genes that differ, as if genes were independent.
    """

    name = "differential_distribution"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("log",)),
        "labels": Input(kind="codes", missing=True, unseen="missing", of_fitted_cells=True),
        "batch": Input(kind="codes", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {"table": TABLE, "probability": Output(levels=True)}
    rowwise = True

    def __init__(
        self,
        *,
        groups: tuple[str, ...] | None = None,
        test: str = "two_part",
        zeros: bool = True,
        p_value: str = "analytic",
        n_perms: int = 1000,
        max_components: int = 5,
        criterion: str = "bic",
        min_cells: int = 20,
        shared_variance: bool = False,
        block_genes: int = 256,
    ):
        check_known(test, tuple(STATISTICS), "test")
        check_known(p_value, ("analytic", "permutation"), "p_value")
        check_known(criterion, ("bic", "aic"), "criterion")
        check_whole(n_perms, 20, "n_perms")
        check_whole(max_components, 0, "max_components")
        check_whole(min_cells, 4, "min_cells")
        check_whole(block_genes, 1, "block_genes")
        if STATISTICS[test].pvalues is None and p_value == "analytic":
            msg = f'test={test!r} has no analytic p-value: pass p_value="permutation".'
            raise ValueError(msg)
        self.groups, self.test, self.zeros, self.p_value, self.n_perms = groups, test, zeros, p_value, n_perms
        self.max_components, self.criterion, self.min_cells = max_components, criterion, min_cells
        self.shared_variance, self.block_genes = shared_variance, block_genes
        self.mixtures = FittedMixtures()

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[Operator]:
        """Without mixtures there is nothing to compute for cells."""
        return _tested_only() if config.get("max_components") == 0 else DifferentialDistribution

    def fit(
        self, *, x: RowBlocks, labels: Codes, batch: Codes | None = None, seed: int = 0, progress: Progress = silent
    ) -> None:
        """Test every gene, and find its mixtures and its class."""
        names, number = two_groups(labels, self.groups, self.min_cells)
        if batch is not None and self.p_value == "analytic":
            msg = 'batch_key is for permutations within batches: pass p_value="permutation" too.'
            raise ValueError(msg)
        self.group_names = Text(json.dumps(names))
        used = number >= 0
        second, cells = number[used] == 1, np.where(used, np.cumsum(used) - 1, -1)
        rng = np.random.default_rng(seed)
        permuted = None
        if self.p_value == "permutation":
            within = None if batch is None else np.asarray(batch.codes)[used]
            if within is not None and not set(within[second]) & set(within[~second]):
                msg = "No batch has cells of both groups, so that labels cannot be permuted within batches."
                raise ValueError(msg)
            permuted = permuted_labels(second, within, self.n_perms, rng)
        comparison = Comparison(self.test, self.zeros, second, permuted)
        rates = detection(x, number)
        parts = []
        for first, genes in gene_blocks(x, cells, self.block_genes):
            progress(first, x.n_columns, "tests")
            parts.append((comparison(comparison.parts(genes, rates)), gene_facts(genes, second)))
        compared = Compared(*map(np.concatenate, zip(*(part for part, _ in parts), strict=True)))
        self._keep(compared, Facts(*map(np.concatenate, zip(*(part for _, part in parts), strict=True))))
        if self.max_components:
            self._classify(x, cells, second, compared, rng, progress)
        progress(x.n_columns, x.n_columns)

    @property
    def levels(self) -> tuple[str, ...]:
        """Names of the two conditions."""
        return tuple(json.loads(text_of(self.group_names)))

    def __call__(self, x: Array, labels: Any = None, batch: Any = None) -> dict[str, Array]:
        """Probability of each condition for each cell."""
        del labels, batch
        return {"probability": jax.nn.softmax(self.log_density(x).sum(axis=1) + self.log_prior[...], axis=-1)}

    def log_density(self, x: Array) -> Array:
        """Log density of the values of each cell in each condition, an array of shape (n_cells, n_different, 2).

        Of the genes that differ; a zero has the probability of a zero.
        """
        at, kind = self.different[...], self.mixture_kind[...]
        values = x[:, at]
        there = values > 0
        values = jnp.where(there, values, 1.0)
        found = []
        for group in range(2):
            density = self.mixtures.log_density(values, at, kind, group)
            empty: Array = jnp.zeros(())
            if self.zeros:
                logit = self.zero_logit[...][at, group]
                density, empty = density + jax.nn.log_sigmoid(-logit), jax.nn.log_sigmoid(logit)
            found.append(jnp.where(there, density, empty))
        return jnp.stack(found, axis=-1)

    def class_probabilities(self, x: Array, codes: Array) -> Array:
        """Probabilities of EE, EP, DE, DP, DM and DB as a function of values and mixtures, to train through.

        By the non-zero values alone, an array of shape (n_genes, 6). ``codes`` number the two conditions, -1 for other
        cells.
        """
        return self.mixtures.class_probabilities(x, codes)

    def density_of(self, gene: int, condition: int, values: np.ndarray) -> np.ndarray:
        """Density of non-zero values of a gene in one condition, as its class has it, an array like ``values``."""
        at = np.full(1, gene)
        x = jnp.asarray(values, jnp.float32)[:, None]
        density = self.mixtures.log_density(x, at, self._shown_mixture[at], condition)[:, 0]
        fitted = self.mixtures.n_components[gene, self._shown_mixture[gene], condition] > 0
        return np.where(fitted, np.exp(density), 0.0)

    @property
    def table(self) -> Frame:
        """One row for each gene."""
        one, two = self.levels
        mean, zeros = (np.asarray(part[...]) for part in (self.nonzero_mean, self.zero_fraction))
        columns: dict[str, np.ndarray | Codes] = {
            name: np.asarray(getattr(self, name)[...])
            for name in (
                "pvalue",
                "padj",
                "pvalue_nonzero",
                "pvalue_zero",
                "pvalue_components",
                "pvalue_spread",
                "statistic",
            )
        }
        if self.max_components:
            columns.update(self._class_columns(one, two))
        columns.update(mean_difference=mean[:, 1] - mean[:, 0], zero_difference=zeros[:, 1] - zeros[:, 0])
        return Frame(columns)

    def _class_columns(self, one: str, two: str) -> dict[str, np.ndarray | Codes]:
        kind = np.asarray(self.category[...])
        probabilities = class_probabilities(np.asarray(self.evidence[...]), np.asarray(self.zero_odds[...]))
        known = np.pad(probabilities, ((0, 0), (0, 1)), constant_values=np.nan)
        n = self.mixtures.n_components
        genes, shown = np.arange(len(kind)), self._shown_mixture
        return {
            "category": Codes(kind.astype(np.int32), CATEGORIES),
            "probability": known[genes, kind],
            f"n_components_{one}": n[genes, shown, 0],
            f"n_components_{two}": n[genes, shown, 1],
            "n_components_pooled": n[genes, self._pooled_mixture, 0],
            **{f"probability_{name}": probabilities[:, i] for i, name in enumerate(CATEGORIES[:-1])},
        }

    @property
    def _pooled_mixture(self) -> np.ndarray:
        """EE or EP, whichever has more evidence."""
        return np.asarray(self.evidence[...])[:, :DE].argmax(axis=1)

    @property
    def _shown_mixture(self) -> np.ndarray:
        """The class whose mixture describes a gene: its own, or one for both conditions."""
        kind = np.asarray(self.category[...])
        return np.where((kind > EP) & (kind < len(CATEGORIES) - 2), kind, self._pooled_mixture)

    def _keep(self, compared: Compared, facts: Facts) -> None:
        adjusted = _adjusted(compared.pvalue)
        self.pvalue, self.padj, self.statistic = (
            Constant(part) for part in (compared.pvalue, adjusted, compared.statistic)
        )
        self.pvalue_nonzero, self.pvalue_zero = Constant(compared.of_values), Constant(compared.of_zeros)
        self.pvalue_components, self.pvalue_spread = Constant(compared.of_components), Constant(compared.of_spread)
        self.padj_components = Constant(_adjusted(compared.of_components))
        self.nonzero_mean, self.zero_fraction = Constant(facts.mean), Constant(facts.zeros)

    def _classify(self, x, cells, second, compared: Compared, rng: np.random.Generator, progress: Progress) -> None:
        with np.errstate(invalid="ignore"):
            significant = np.asarray(self.padj[...]) < ALPHA
        n_values = (1 - np.asarray(self.zero_fraction[...])) @ [len(second) - second.sum(), second.sum()]
        width = sample_width(int(np.rint(n_values.max(initial=0))))
        blocks = (scaled_sample(genes, second, width) for _, genes in gene_blocks(x, cells, self.block_genes))
        found, scaled, first = [], [], 0
        for part in gathered(blocks, TOGETHER):
            here = slice(first, first + len(part.centre))
            found.append(
                fit_hypotheses(
                    part,
                    significant[here],
                    self.max_components,
                    rng,
                    shared_variance=self.shared_variance,
                    criterion=self.criterion,
                )
            )
            scaled.append((part.centre, part.scale))
            first = here.stop
            progress(first, x.n_columns, "mixtures")
        hypotheses = Hypotheses.joined(found)
        self.mixtures.keep(hypotheses, *map(np.concatenate, zip(*scaled, strict=True)))
        self.evidence = Constant(hypotheses.evidence)
        self.category = Constant(categories(compared, significant, hypotheses.evidence).astype(np.int32))
        self.zero_odds = Constant(
            (special.chdtri(1, np.nan_to_num(compared.of_zeros, nan=1.0)) - np.log(len(second))) / 2
        )
        sizes = np.array([len(second) - second.sum(), second.sum()])
        share = (np.asarray(self.zero_fraction[...]) * sizes + 0.5) / (sizes + 1)
        self.zero_logit = nnx.Param(jnp.asarray(special.logit(share), jnp.float32))
        self.log_prior = Constant(jnp.asarray(np.log(sizes / sizes.sum()), jnp.float32))
        at = np.flatnonzero(significant)
        self.different = Constant(jnp.asarray(at, jnp.int32))
        self.mixture_kind = Constant(jnp.asarray(self._shown_mixture[at], jnp.int32))


def _adjusted(pvalue: np.ndarray) -> np.ndarray:
    """For the number of genes that were tested; NaN for others."""
    tested = ~np.isnan(pvalue)
    adjusted = np.full(tested.shape, np.nan)
    adjusted[tested] = false_discovery_rates(pvalue[tested])
    return adjusted


@cache
def _tested_only() -> type[Operator]:
    """The class of tests without mixtures."""
    cls = DifferentialDistribution
    body = {
        "outputs": {"table": TABLE},
        "__call__": Operator.__call__,
        "__module__": __name__,
        "__qualname__": cls.__qualname__,
    }
    return type(cls.__name__, (cls,), body)
