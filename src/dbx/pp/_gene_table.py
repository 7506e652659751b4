"""The table that ``highly_variable_genes(inplace=False)`` returns, with scanpy's columns in its order."""

from __future__ import annotations

import numpy as np
import pandas as pd

from dbx.ops.genes.dispersion import bin_edges
from dbx.ops.genes.highly_variable import HighlyVariable
from dbx.ops.operator import Operator
from dbx.program.compat import SCANPY

OF_COUNTS = "means variances gene_name highly_variable_nbatches highly_variable_rank variances_norm highly_variable"
OF_LOGS = """
    means dispersions mean_bin dispersions_norm highly_variable highly_variable_nbatches highly_variable_intersection
"""


def gene_table(operator: Operator, columns: list[str], genes: pd.Index) -> pd.DataFrame:
    """The statistics of genes, in float64."""
    frame = pd.DataFrame({name: np.asarray(getattr(operator, name)[...]) for name in columns}, index=genes)
    by_logs = isinstance(operator, HighlyVariable)
    if not isinstance(operator, HighlyVariable):
        frame["gene_name"] = genes
    elif "highly_variable_nbatches" not in columns:
        frame["mean_bin"] = mean_bins(operator, frame["means"])
    return frame[[name for name in (OF_LOGS if by_logs else OF_COUNTS).split() if name in frame]]


def mean_bins(operator: HighlyVariable, means: pd.Series) -> pd.Series:
    """The bin of mean expression each gene fell into; 0 for genes left out."""
    used = means[means != 0] if operator.filter_unexpressed_genes else means
    bins = pd.cut(used, bin_edges(used.to_numpy(), operator.flavor, operator.n_bins))
    if SCANPY.release >= (1, 12):
        bins = bins.cat.set_categories(bins.cat.categories.astype("string"), rename=True)
    return bins if len(used) == len(means) else bins.astype(object).reindex(means.index, fill_value=0.0)
