"""R's results of one data set, read from a folder: counts, samples, settings and tables."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData


class Reference:
    """A folder with ``counts.csv.gz``, ``coldata.csv``, ``meta.json`` and tables of R's results."""

    def __init__(self, folder: Path):
        self.folder, self.name = folder, folder.name
        self.meta = json.loads((folder / "meta.json").read_text())
        self.design = self.meta["design"].replace("~", "~ ")

    @cached_property
    def samples(self) -> pd.DataFrame:
        """What is known of the samples; texts are factors with R's reference level first."""
        samples = pd.read_csv(self.folder / "coldata.csv", index_col=0)
        levels = self.meta.get("levels", {})
        for name in samples.select_dtypes(exclude="number"):
            samples[name] = pd.Categorical(samples[name], levels.get(name))
        return samples

    @cached_property
    def counts(self) -> pd.DataFrame:
        """Genes by samples."""
        return pd.read_csv(self.folder / "counts.csv.gz", index_col=0)

    @property
    def size_factors(self) -> np.ndarray:
        """Of each sample, by the median of ratios."""
        return self.per_sample("sizeFactors")

    def per_sample(self, key: str) -> np.ndarray:
        """Numbers of the samples, from the settings."""
        return np.array([self.meta[key][sample] for sample in self.samples.index])

    @property
    def first_factor(self) -> str:
        """The design without its other terms."""
        return self.design.split("+")[0].strip()

    def adata(self) -> AnnData:
        """Samples by genes, untouched."""
        counts = self.counts
        return AnnData(counts.to_numpy(np.float64).T, obs=self.samples.copy(), var=pd.DataFrame(index=counts.index))

    def has(self, name: str) -> bool:
        """Whether there is a table of this name."""
        return (self.folder / f"{name}.csv.gz").exists()

    def table(self, name: str) -> pd.DataFrame:
        """A table of R's results; flags as 0 and 1."""
        found = pd.read_csv(self.folder / f"{name}.csv.gz", index_col=0)
        flags = found.select_dtypes(exclude="number")
        truths = {True: 1.0, False: 0.0, "TRUE": 1.0, "FALSE": 0.0, "True": 1.0, "False": 0.0}
        return found.assign(**{column: flags[column].map(truths) for column in flags})

    def find(self, pattern: str) -> list[str]:
        """Names of the tables that match."""
        return sorted(path.name.removesuffix(".csv.gz") for path in self.folder.glob(f"{pattern}.csv.gz"))


def references(folder: Path) -> list[Reference]:
    """All sets in a folder."""
    return [Reference(path.parent) for path in sorted(folder.glob("*/meta.json"))]
