"""Counts of samples on a scale where the variance does not depend on the mean."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import check_known
from dbx.ops.de.design.design import make_design, variables
from dbx.ops.de.dispersion.trend import TrendKind, fit_trend
from dbx.ops.de.fit.fit_model import gene_wise_dispersions
from dbx.ops.de.fit.prepare import Settings, prepare_samples
from dbx.ops.de.fit.size_factors import log_references, median_of_ratios, size_factors
from dbx.ops.de.glm.genes import GeneCounts
from dbx.ops.de.settings import check_choices
from dbx.ops.de.variance_stabilizing import stabilised, stabilising_curve
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Codes

RATIOS = ("ratio", "poscounts")
"""Size factors that a new sample gets by itself."""


class VST(Operator):
    """log2-like values of constant variance, from size factors and a trend of dispersions over means.

    The curve and the references of the size factors are kept: new samples are brought to the scale of the fitted ones,
    each by itself.

    New cells: its size factor, from the reference's genes; the reference's transformation.
    """

    name = "vst"
    inputs = {
        "counts": Input(genes=True, content=("counts",), empty_cells="raise"),
        "frame": Input(kind="columns", optional=True, of_fitted_cells=True),
    }
    outputs = {"transformed": Output(dtype="float64", content="log")}
    rowwise = True
    host = True
    precision = "float64"

    def __init__(self, *, design: str = "~ 1", fit_type: TrendKind = "parametric", size_factors: str = "ratio"):
        check_choices(fit_type=fit_type)
        check_known(size_factors, RATIOS, "size_factors")
        self.design = design
        self.fit_type = fit_type
        self.size_factors = size_factors

    def fit(
        self,
        *,
        counts: RowBlocks,
        frame: Mapping[str, Codes | np.ndarray] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Size factors, gene-wise dispersions around the design's means, their trend and the curve that follows."""
        columns = {name: frame[name] for name in variables(self.design)} if frame else {}
        design = make_design(self.design, columns, counts.n_rows).matrix
        reference = log_references(counts, self.size_factors)
        factors = size_factors(counts, reference)
        genes = GeneCounts(counts)
        progress(0, 2, "gene-wise dispersions")
        settings = Settings(design, factors)
        data = prepare_samples(genes, settings)
        dispersion, _ = gene_wise_dispersions(data, settings)
        progress(1, 2, "trend")
        trend, _ = fit_trend(self.fit_type, data.mean, dispersion)
        curve = stabilising_curve(trend, factors, genes.full_length(data.mean, 0), _largest(genes, factors))
        progress(2, 2, "trend")
        self.reference = Constant(reference)
        self.curve = Constant(curve)

    def __call__(self, counts, frame=None):
        return {"transformed": stabilised(counts, median_of_ratios(counts, self.reference[...]), self.curve[...])}

    @property
    def kind(self) -> TrendKind:
        """The trend that was fitted: local where the parametric one failed."""
        if self.curve[...].ndim == 2:
            return "local"
        return "parametric" if len(self.curve[...]) == 2 else "mean"


def _largest(genes: GeneCounts, factors: np.ndarray) -> float:
    """The largest normalised count."""
    return max(float((y / factors).max()) for _, y in genes.parts())
