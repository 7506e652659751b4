"""Differential expression of counts: a negative binomial regression for every gene, as DESeq2 fits and tests it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.de.design.contrast import contrast_vector
from dbx.ops.de.design.design import design_again
from dbx.ops.de.design.formula import checked_formula
from dbx.ops.de.design.tables import Table, matrix_table, one_table, summed_tables
from dbx.ops.de.dispersion.trend import TrendKind
from dbx.ops.de.fit.implicit import fold_changes
from dbx.ops.de.fit.prepare import Mode
from dbx.ops.de.fit.size_factors import median_of_ratios
from dbx.ops.de.fit_table import Found, Recipe, fit_table
from dbx.ops.de.model_arrays import checksum, padded, sample_facts, stacked
from dbx.ops.de.results.report import (
    coefficient_columns,
    facts_of_groups,
    long_table,
    result_columns,
    samples_table,
    shared_facts,
)
from dbx.ops.de.results.result_table import Fitted, Results, Test, conclude
from dbx.ops.de.results.wald import ALTERNATIVES
from dbx.ops.de.settings import (
    SIZE_FACTORS,
    check_choices,
    check_numbers,
    check_size_factors,
    check_test,
    plain_contrast,
    plain_reduced,
)
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Text, silent, text_of
from dbx.ops.values import Codes, Frame

NUMBERS = ("baseMean", "baseVar", "dispGeneEst", "dispFit", "dispMAP", "dispersion", "maxCooks")
FLAGS = ("dispOutlier", "cooksOutlier", "replace", "betaConv")
WHAT_IS_ASKED = ("contrast", "lfc_threshold", "alternative", "alpha", "independent_filtering")
"""Settings that a fitted model answers to without another fit."""

CHECKSUM_RTOL = 1e-10
"""Checksums are alike to rounding."""

OF_ONE_MODEL, OF_GROUPS, OF_SUMS = "Only one model has it.", "Only groups have it.", "Only summed samples have it."
VIEW = Output(axis="none", dtype=None, view=True, inference=True)


class NBGLM(Operator):
    """K ~ NB(s exp(X beta), alpha) for each gene, with a test of one contrast of beta.

    The size factors s are what it computes for cells, row by row against the genes' references; the tables of genes are
    conclusions about the fitted cells. With ``sample`` the counts of cells are summed first, with ``group`` there is a
    model for each group of cells. Arrays of the state have an axis of models, one without groups; the coefficients are
    natural logarithms.

    New cells: its size factor, from the reference's genes; the test of genes is not repeated.
    """

    name = "nb_glm"
    inputs = {
        "counts": Input(genes=True, content=("counts",)),
        "frame": Input(kind="columns", optional=True, of_fitted_cells=True),
        "matrix": Input(optional=True, of_fitted_cells=True),
        "sample": Input(kind="codes", optional=True, of_fitted_cells=True),
        "group": Input(kind="codes", optional=True, of_fitted_cells=True),
    }
    outputs = {
        "size_factors": Output(dtype="float64"),
        "own_size_factors": Output(dtype="float64", view=True, inference=True),
        **dict.fromkeys(("table", "fit_table", "long_table", "samples", "params", "facts"), VIEW),
    }
    rowwise = True
    host = True
    precision = "float64"

    def __init__(
        self,
        *,
        design: str | tuple[str, ...],
        contrast: str | Sequence[Any] | None = None,
        test: str = "wald",
        reduced: str | Sequence[str] | None = None,
        size_factors: str = "ratio",
        fit_type: TrendKind = "parametric",
        dispersion: Mode = "deseq2",
        min_mu: float | None = None,
        shrink: str | None = None,
        lfc_threshold: float = 0.0,
        alternative: str = "two-sided",
        alpha: float = 0.1,
        cooks: bool = True,
        independent_filtering: bool = True,
        min_cells: int = 1,
        group_key: str | None = None,
    ):
        check_choices(test=test, fit_type=fit_type, dispersion=dispersion, shrink=shrink, alternative=alternative)
        check_numbers(alpha=alpha, lfc_threshold=lfc_threshold, min_mu=min_mu, min_cells=min_cells)
        check_test(test, reduced, lfc_threshold, alternative)
        check_size_factors(size_factors)
        self.design = design  # a formula, or the names of the matrix's columns
        self.contrast = plain_contrast(contrast)
        self.test = test
        self.reduced = plain_reduced(reduced)
        self.size_factors = size_factors
        self.fit_type = fit_type
        self.dispersion = dispersion
        self.min_mu = min_mu
        self.shrink = shrink
        self.lfc_threshold = float(lfc_threshold)
        self.alternative = ALTERNATIVES.get(alternative, alternative)
        self.alpha = float(alpha)
        self.cooks = cooks
        self.independent_filtering = independent_filtering
        self.min_cells = min_cells
        self.group_key = group_key

    @property
    def fit_config(self) -> dict[str, Any]:
        if self.shrink is not None or self.size_factors == "deges":
            return self.config
        return {name: value for name, value in self.config.items() if name not in WHAT_IS_ASKED}

    def fit(
        self,
        *,
        counts: RowBlocks,
        frame: Mapping[str, Codes | np.ndarray] | None = None,
        matrix: RowBlocks | None = None,
        sample: Codes | None = None,
        group: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Fit every table of samples, or only ask the models that are there for another contrast."""
        tables, skipped = self._tables(counts, dict(frame or {}), matrix, sample, group)
        sums = checksum(counts)
        if self._knows(tables, sums):
            if self.shrink is None:  # else the fit was for this very question, and its answer is there
                self._conclude(tables, skipped)
            return
        found = [fit_table(table, self._recipe(table), _within(progress, i, tables)) for i, table in enumerate(tables)]
        self._keep(tables, found, skipped)
        self.checksum = Constant(sums)

    def _knows(self, tables: list[Table], sums: np.ndarray) -> bool:
        """Whether there is a fit, of these groups and counts."""
        if not hasattr(self, "coefficients"):
            return False
        same_groups = [fact["group"] for fact in self._facts] == [table.group for table in tables]
        return same_groups and np.allclose(self.checksum.get_value(), sums, rtol=CHECKSUM_RTOL, atol=0)

    def _tables(self, counts, columns, matrix, sample, group) -> tuple[list[Table], dict[str, str]]:
        if sample is None and matrix is not None:
            values = matrix.dense()
            return [matrix_table(values, self.design, counts, columns, self.contrast, self.reduced)], {}
        design = checked_formula(self.design)
        reduced = None if self.reduced is None else checked_formula(self.reduced)
        if sample is None:
            return [one_table(design, counts, columns, self.contrast, reduced)], {}
        return summed_tables(
            design, counts, columns, sample, group, self.group_key, self.contrast, reduced, self.min_cells
        )

    def _recipe(self, table: Table) -> Recipe:
        fits = (self.size_factors, self.fit_type, self.dispersion, self.min_mu, self.cooks)
        return Recipe(*fits, self._test(table), self.shrink)

    def _test(self, table: Table) -> Test:
        df = 0 if table.reduced is None else table.design.matrix.shape[1] - table.reduced.matrix.shape[1]
        return Test(self.test, df, self.lfc_threshold, self.alternative, self.alpha, self.independent_filtering)

    def _keep(self, tables: list[Table], found: list[Found], skipped: Mapping[str, str]) -> None:
        """The state of fitted models; models with fewer coefficients than others are padded with NaN."""
        width = max(table.design.matrix.shape[1] for table in tables)
        self.coefficients = nnx.Param(np.stack([padded(each.fitted.beta, width, axes=(1,)) for each in found]))
        covariance = [padded(each.fitted.covariance, width, axes=(1, 2)) for each in found]
        self.covariance = Constant(np.stack(covariance))
        self.statistics = Constant(stacked(found, NUMBERS))
        self.flags = Constant(stacked(found, FLAGS))
        self.likelihood_ratio = Constant(np.stack([each.fitted.likelihood_ratio for each in found]))
        if tables[0].samples is None and self.size_factors == "iterate":
            self.factors = Constant(found[0].factors)
        if tables[0].samples is None and found[0].references is not None:
            self.reference = Constant(found[0].references)
        facts = [
            {"group": table.group, **each.facts, **sample_facts(table, each.factors)}
            for table, each in zip(tables, found, strict=True)
        ]
        self.text = Text(json.dumps({"facts": facts, "skipped": dict(skipped)}))
        self._keep_results(tables, [each.results for each in found])

    def _keep_results(self, tables: list[Table], results: list[Results]) -> None:
        self.results = Constant(np.stack([each.values for each in results]))
        self.filters = Constant(np.array([[each.threshold, each.theta] for each in results]))

    def _conclude(self, tables: list[Table], skipped: Mapping[str, str]) -> None:
        self.text = Text(json.dumps({"facts": self._facts, "skipped": dict(skipped)}))
        answers = [
            conclude(self._fitted(k), table.weights, table.no_counts(), self._test(table))
            for k, table in enumerate(tables)
        ]
        self._keep_results(tables, answers)

    def _fitted(self, k: int) -> Fitted:
        n_coefficients = len(self._facts[k]["coefficients"])
        flags = dict(zip(FLAGS, np.moveaxis(np.asarray(self.flags.get_value())[k], -1, 0), strict=True))
        base_mean = np.asarray(self.statistics.get_value())[k, :, NUMBERS.index("baseMean")]
        return Fitted(
            base_mean,
            np.asarray(self.coefficients.get_value())[k, :, :n_coefficients],
            np.asarray(self.covariance.get_value())[k, :, :n_coefficients, :n_coefficients],
            np.asarray(self.likelihood_ratio.get_value())[k],
            flags["cooksOutlier"] & self.cooks,
            flags["replace"] & (base_mean == 0),
        )

    def __call__(self, counts, frame=None, matrix=None, sample=None, group=None):
        if sample is None and self.size_factors in ("ratio", "poscounts", "deges"):
            return {"size_factors": median_of_ratios(counts, self.reference[...])}
        given = frame is not None and self.size_factors in frame and sample is None
        return {"size_factors": frame[self.size_factors]} if given else {}

    def fold_changes(self, counts, frame=None, matrix=None, *, size_factors=None) -> jax.Array:
        """log2 fold change of every gene as a differentiable function of the samples; an array of shape (n_genes,).

        On the fitted samples these are the fold changes of the table, without shrinkage and with the counts as given,
        none of them replaced as an outlier. The derivatives are those of the maximum of the likelihood, at the fitted
        dispersions. In float64: call it, and differentiate it, within ``jax.enable_x64(True)``.

        Parameters
        ----------
        counts
            Array of shape (n_samples, n_genes); of the sums of cells, where the fit summed them.
        frame
            Columns of the formula by name, such as ``adata.obs``.
        matrix
            The design matrix, an array of shape (n_samples, n_coefficients), where the fit had one.
        size_factors
            Array of shape (n_samples,); by default as the fit found them, a function of the counts if they are ratios.

        Raises
        ------
        ValueError
            The design is coded otherwise than in the fit, or float64 is off.
        AttributeError
            There is a model for each group.
        """
        if self._is_grouped:
            raise AttributeError(OF_ONE_MODEL)
        if jax.dtypes.canonicalize_dtype(np.float64) != np.float64:
            msg = "Fold changes are fitted in float64: call and differentiate them within jax.enable_x64(True)."
            raise ValueError(msg)
        facts = self._facts[0]
        design = design_again(self.design, frame, matrix, len(counts), facts["coefficients"])
        if size_factors is None:
            size_factors = self._size_factors_of(counts, frame)
        dispersion = self.statistics[...][0, :, NUMBERS.index("dispersion")]
        weights = contrast_vector(design, self.contrast)
        return fold_changes(counts, design.matrix, weights, size_factors, dispersion, min_mu=facts["min_mu"])

    def _size_factors_of(self, counts, frame):
        if self._facts[0]["samples"] is not None:
            return np.array(self._facts[0]["size_factors"])
        if self.size_factors not in SIZE_FACTORS:
            return np.asarray(frame[self.size_factors], np.float64)
        return self.own_size_factors if self.size_factors == "iterate" else self(counts)["size_factors"]

    @property
    def _facts(self) -> list[dict[str, Any]]:
        return self._notes["facts"]

    @property
    def _notes(self) -> dict[str, Any]:
        return json.loads(text_of(self.text))

    @property
    def _is_grouped(self) -> bool:
        return self._facts[0]["group"] is not None

    def _results_of(self, k: int) -> dict[str, np.ndarray]:
        base_mean = np.asarray(self.statistics.get_value())[k, :, 0]
        return result_columns(base_mean, np.asarray(self.results.get_value())[k], shrunken=self.shrink == "apeglm")

    @property
    def own_size_factors(self) -> np.ndarray:
        """Size factors of the fitted samples, where they cannot be computed sample by sample."""
        return np.asarray(self.factors.get_value())

    @property
    def table(self) -> Frame:
        """Results of one model, a row for each gene."""
        if self._is_grouped:
            raise AttributeError(OF_ONE_MODEL)
        return Frame(self._results_of(0))

    @property
    def fit_table(self) -> Frame:
        """Dispersions, outliers and coefficients of one model, a row for each gene."""
        if self._is_grouped:
            raise AttributeError(OF_ONE_MODEL)
        fitted = self._fitted(0)
        numbers = zip(NUMBERS, np.asarray(self.statistics.get_value())[0].T, strict=True)
        flags = zip(FLAGS, np.asarray(self.flags.get_value())[0].T, strict=True)
        coefficients = coefficient_columns(self._facts[0]["coefficients"], fitted.beta, fitted.covariance)
        return Frame({**dict(numbers), **dict(flags), **coefficients})

    @property
    def long_table(self) -> Frame:
        """Results of the models of all groups."""
        if not self._is_grouped:
            raise AttributeError(OF_GROUPS)
        groups = [fact["group"] for fact in self._facts]
        return long_table(groups, [self._results_of(k) for k in range(len(groups))])

    @property
    def samples(self) -> Frame:
        """Summed samples."""
        if self._facts[0]["samples"] is None:
            raise AttributeError(OF_SUMS)
        return samples_table(self._facts)

    @property
    def facts(self) -> dict[str, Any] | Frame:
        """Trend, prior and filter of the model, or of each group's."""
        filters = np.asarray(self.filters.get_value())
        if self._is_grouped:
            return facts_of_groups(self._facts, filters, self._notes["skipped"])
        return shared_facts(self._facts[0], filters[0])

    @property
    def params(self) -> dict[str, Any]:
        """The settings, as AnnData keeps them."""
        params = {name: value for name, value in self.config.items() if value is not None}
        return {"contrast": self._facts[0]["coefficients"][-1], **params}


def _within(progress: Progress, at: int, tables: list[Table]) -> Progress:
    """Progress of one of several tables."""
    n_tables = len(tables)

    def show(done: int, total: int, note: str = "") -> None:
        group = tables[at].group
        progress(at * total + done, n_tables * total, note if group is None else f"{group}: {note}")

    return show
