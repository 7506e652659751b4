"""Simulated sets with the complete results of R DESeq2 1.38.3 (R 4.2.2), which every part of tl.de is held against.

``outlier_10v4`` (~ condition) has planted outliers: flags, replacement and refit. ``outlier_4v4`` falls back to the
local trend. ``nb_6v6`` and ``nb_3v3`` (~ batch + age + condition) have a covariate; nb_3v3 has two residual degrees of
freedom.
R's numbers have nine significant digits.
"""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

HERE = Path(__file__).parents[1] / "reference" / "deseq2"
SETS = ("outlier_10v4", "outlier_4v4", "nb_6v6", "nb_3v3")


@dataclass(frozen=True)
class Reference:
    counts: np.ndarray
    """Array of shape (n_genes, n_samples), float64."""
    columns: pd.DataFrame
    """Samples, with categorical columns."""
    design: np.ndarray
    results: pd.DataFrame
    """A row for each gene: mcols(dds), coef(dds), results(dds, alpha=0.05); NaN where R has NA."""
    meta: dict

    @property
    def formula(self) -> str:
        return self.meta["design"].replace("~", "~ ")

    @property
    def size_factors(self) -> np.ndarray:
        return np.array(list(self.meta["sizeFactors"].values()))


@cache
def deseq2(name: str) -> Reference:
    columns = pd.read_csv(HERE / name / "coldata.csv", index_col=0)
    for key in columns.select_dtypes(exclude="number"):
        columns[key] = pd.Categorical(columns[key])
    counts = pd.read_csv(HERE / name / "counts.csv.gz", index_col=0).to_numpy(np.float64)
    results = pd.read_csv(HERE / name / "deseq2.csv.gz", index_col=0)
    for key in ("dispOutlier", "betaConv", "replace"):
        results[key] = results[key].map({True: True, False: False, "TRUE": True, "FALSE": False})
    meta = json.loads((HERE / name / "meta.json").read_text())
    return Reference(counts, columns, _design(columns, meta["design"]), results, meta)


def _design(columns: pd.DataFrame, formula: str) -> np.ndarray:
    coded = [np.ones(len(columns))]
    for name in formula.lstrip("~").split("+"):
        column = columns[name.strip()]
        coded.append(column.cat.codes if hasattr(column, "cat") else column)
    return np.column_stack(coded).astype(np.float64)
