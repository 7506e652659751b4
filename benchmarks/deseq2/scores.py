"""Calibration and power on simulated counts, for dbx and for what R and pydeseq2 gave on the same counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from benchmarks.deseq2.reference import Reference
from benchmarks.deseq2.tables import table
from scipy import stats

import dbx

LEVEL = 0.05
VARIANTS = {
    "default": ({}, "DESeq2 default (median of ratios)"),
    'size_factors="deges"': (
        {"size_factors": "deges"},
        "DESeq2, size factors from non-DE genes, pass 2 (DEGES)",
    ),
    "lfc_threshold=0.25": ({"lfc_threshold": 0.25}, "DESeq2 default + lfcThreshold 0.25"),
    "lfc_threshold=0.5": ({"lfc_threshold": 0.5}, "DESeq2 default + lfcThreshold 0.5"),
    'size_factors="poscounts"': ({"size_factors": "poscounts"}, "DESeq2 poscounts"),
}


def changes(reference: Reference) -> np.ndarray:
    """Which genes change, an array of shape (n_genes,)."""
    truth = reference.table("truth")
    return truth["log2fc" if "de" not in truth else "de"].to_numpy() != 0


def score(changed: np.ndarray, pvalue: np.ndarray, padj: np.ndarray) -> list[str]:
    """Calls, precision, recall, F1 and AUROC; a gene without a p-value ranks last."""
    called = padj < LEVEL
    hits = (called & changed).sum()
    precision, recall = hits / max(called.sum(), 1), hits / changed.sum()
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    ranks = stats.rankdata(-np.nan_to_num(pvalue, nan=1.0))
    n, k = len(changed), changed.sum()
    auroc = (ranks[changed].sum() - k * (k + 1) / 2) / (k * (n - k))
    return [str(called.sum()), *(f"{value:.3f}" for value in (precision, recall, f1, auroc))]


def power(sets: list[Reference], results: dict) -> str:
    """A row for each tool and set with known changes in some genes."""
    rows = []
    for reference in sets:
        changed = changes(reference)
        if not changed.any():
            continue
        ours, r = results[reference.name].table, reference.table("r_methods")
        peers = {"R DESeq2": (r["DESeq2_p"], r["DESeq2_padj"])}
        if reference.has("py_methods"):
            py = reference.table("py_methods")
            peers["pydeseq2"] = (py["pydeseq2_p"], py["pydeseq2_padj"])
        tools = {"dbx": (ours["pvalue"], ours["padj"]), **peers}
        for tool, (pvalue, padj) in tools.items():
            values = (column.reindex(reference.counts.index).to_numpy() for column in (pvalue, padj))
            rows.append([reference.name, tool, *score(changed, *values)])
    return table(["set", "tool", "called", "precision", "recall", "F1", "AUROC"], rows)


def calibration(folder: Path, sets: list[Reference], results: dict) -> str:
    """Shares of small p-values where nothing changes, beside R's; KS: the distance to the uniform distribution."""
    theirs, rows = pd.read_csv(folder / "null_calibration.csv"), []
    shares = {"frac_p_lt_05": 0.05, "frac_p_lt_01": 0.01, "frac_p_lt_001": 0.001}
    for reference in sets:
        own = theirs[(theirs["set"] == reference.name) & (theirs["genes"] == "all")]
        if own.empty:
            continue
        p = results[reference.name].table["pvalue"].dropna().to_numpy()
        found = [(p < level).mean() for level in shares.values()] + [stats.kstest(p, "uniform").statistic]
        rows.append([reference.name, "dbx", len(p), *(f"{value:.5f}" for value in found)])
        for method, name in (("DESeq2", "R DESeq2"), ("pydeseq2", "pydeseq2")):
            row = own[own["method"] == method].iloc[0]
            rows.append([reference.name, name, row["n"], *(f"{row[key]:.5f}" for key in (*shares, "KS"))])
    return table(["set", "tool", "genes", "p < .05", "p < .01", "p < .001", "KS"], rows)


def size_factor_variants(folder: Path) -> str:
    """200 of 2,000 genes go up and none down: what size factors and thresholds make of that."""
    reference = Reference(folder / "diffbio_poisson")
    theirs = pd.read_csv(folder / "diffbio_variants.csv", index_col="variant")
    changed, rows = changes(reference), []
    for name, (settings, variant) in VARIANTS.items():
        adata = reference.adata()
        dbx.tl.de(adata, reference.design, alpha=LEVEL, **settings)
        found = adata.varm["de"]
        rows.append(["dbx", name, *score(changed, found["pvalue"].to_numpy(), found["padj"].to_numpy())])
        r = theirs.loc[variant]
        numbers = (f"{r[key]:.3f}" for key in ("precision", "recall", "F1", "AUROC"))
        rows.append(["R", variant, str(int(r["n_called"])), *numbers])
    return table(["tool", "variant", "called", "precision", "recall", "F1", "AUROC"], rows)
