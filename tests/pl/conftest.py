"""Data with R DESeq2's own results where dbx.tl.de writes its own, so that plots are held against known numbers."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from deseq2_reference import deseq2
from matplotlib import pyplot as plt

import dbx

COLUMNS = ["baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj"]
FIT = ["baseMean", "dispGeneEst", "dispFit", "dispMAP", "dispersion", "dispOutlier", "maxCooks"]


def with_results(name):
    """A simulated set as dbx.tl.de leaves it."""
    reference = deseq2(name)
    genes, samples = reference.results.index, reference.columns.index
    last = reference.results.filter(like="beta_").columns[-1].removeprefix("beta_")
    table = reference.results.rename(columns={f"beta_{last}": "log2FoldChange", f"SE_{last}": "lfcSE"})
    emptied = table["log2FoldChange"].isna() & table["pvalue"].notna()  # nothing left once outliers are replaced
    table.loc[emptied, ["log2FoldChange", "lfcSE"]] = 0.0  # as R's results say
    fit = table[FIT].assign(dispOutlier=table["dispOutlier"].eq(True))
    var = pd.DataFrame({"symbol": [f"S{i}" for i in range(len(genes))]}, index=genes)
    adata = ad.AnnData(reference.counts.T.astype(np.float32), obs=reference.columns.copy(), var=var)
    adata.obs_names = samples
    adata.obs["size_factors"] = reference.size_factors
    adata.varm["de"], adata.varm["de_fit"] = table[COLUMNS], fit
    trend = np.array(list(dict(reference.meta["trend_coefs"]).values()) if reference.meta["trend_coefs"] else [])
    params = {"design": reference.formula, "contrast": ["condition", "B", "A"], "test": "wald", "alpha": 0.05}
    adata.uns["de"] = {
        "params": params,
        "fit": {"trend": reference.meta["fitType"], "trend_coefficients": trend},
    }
    return adata


def of_groups(adata, layer=None):
    """Cells of two types, a third of a sample each, tested as sums; B cells have twice the counts."""
    thirds = np.floor(adata.X / 3)
    parts = np.concatenate([thirds, thirds, adata.X - 2 * thirds])
    obs = pd.concat([adata.obs.assign(donor=adata.obs_names)] * 3).drop(columns="size_factors")
    obs.index = [f"cell{i}" for i in range(len(obs))]
    kinds = [ad.AnnData(parts * n, obs=obs.assign(cell_type=kind)) for n, kind in ((1, "T cells"), (2, "B cells"))]
    cells = ad.concat(kinds, index_unique="-")
    cells.var = adata.var.copy()
    params = adata.uns["de"]["params"]
    test = {"contrast": tuple(params["contrast"]), "alpha": params["alpha"]}
    dbx.tl.de(cells, params["design"], sample_key="donor", group_key="cell_type", layer=layer, **test)
    return cells


@pytest.fixture(scope="session")
def _nb():
    return with_results("nb_6v6")


@pytest.fixture(scope="session")
def _outliers():
    return with_results("outlier_10v4")


@pytest.fixture
def nb(_nb):
    """12 samples, a batch and a covariate beside the condition; R's results."""
    return _nb.copy()


@pytest.fixture
def outliers(_outliers):
    """10 against 4 samples with planted outliers; R's results."""
    return _outliers.copy()


@pytest.fixture(scope="session")
def _groups(_nb):
    return of_groups(_nb)


@pytest.fixture
def groups(_groups):
    """72 cells of 12 donors and 2 types, tested by type; sums of the T cells are the counts of nb."""
    return _groups.copy()


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")
