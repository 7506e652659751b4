"""dbx.tl.de beside R DESeq2: every table that R wrote, column by column."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from benchmarks.deseq2.reference import Reference, references
from benchmarks.deseq2.scores import calibration, power, size_factor_variants
from benchmarks.deseq2.tables import CALLS_HEAD, Apart, apart, calls_row, errors_table, table

import dbx
from dbx.data.blocks import RowBlocks
from dbx.ops.de.design.design import make_design
from dbx.ops.de.fit.cooks import cooks_distance, design_cells, robust_dispersion
from dbx.ops.de.fit.fit_model import Settings, fit_model
from dbx.ops.de.glm.regression import moments
from dbx.ops.values import Codes

COLUMNS = ("baseMean", "log2FoldChange", "lfcSE", "stat", "pvalue", "padj")
GENE_WISE = ("baseMean", "baseVar", "dispGeneEst", "dispFit", "dispMAP", "dispersion", "dispOutlier", "maxCooks")
ALTERNATIVES = {"greaterAbs": "two-sided", "lessAbs": "less-abs", "greater": "greater", "less": "less"}
SYNTH_ALPHA = 0.05
EARLY = ("apeglm", "iterate")
"""What R's optimisers leave early, so that its own digits are not those of the optimum."""
Tables = Iterator[tuple[str, list[Apart]]]


class Tested:
    """One set under dbx.tl.de; the fit is kept between questions that need no other."""

    def __init__(self, reference: Reference, **settings):
        self.reference, self.settings, self.adata = reference, settings, reference.adata()
        self.ask()

    def ask(self, **question) -> pd.DataFrame:
        """Results for a contrast, a threshold, ...; for all genes."""
        dbx.tl.de(self.adata, self.reference.design, **self.settings, **question)
        return self.adata.varm["de"]

    @property
    def fit(self) -> pd.DataFrame:
        return self.adata.varm["de_fit"]

    @property
    def facts(self) -> dict:
        return self.adata.uns["de"]["fit"]


def columns(ours: pd.DataFrame, theirs: pd.DataFrame, names: dict[str, str]) -> list[Apart]:
    """A row for each pair of columns, R's name -> ours, over R's genes; a flag is compared where R has one."""
    ours = ours.loc[theirs.index]
    return [
        apart(name, ours[own].where(theirs[name].notna()) if ours[own].dtype == bool else ours[own], theirs[name])
        for name, own in names.items()
    ]


def same(*names: str) -> dict[str, str]:
    """Columns that have the same name in both."""
    return {name: name for name in names}


def airway(reference: Reference) -> tuple[list[tuple[str, list[Apart]]], list[list]]:
    """(title and errors of each file, rows of calls)."""
    ratio = Tested(reference)
    calls: list[list] = []
    found = [
        ("size factors", list(_size_factors(reference, ratio))),
        ("shared by the genes", _shared(reference, ratio)),
        ("dispersions", columns(ratio.fit, reference.table("deseq2_genewise"), same(*GENE_WISE, "betaConv"))),
        ("coefficients", _coefficients(ratio.fit, reference.table("deseq2_coefficients"))),
        *_wald(reference, ratio, calls),
        *_thresholds(reference, ratio, calls),
        *_lrt(reference, calls),
        *_shrunken(reference),
        *_other_fits(reference, calls),
        *_by_sample(reference),
    ]
    return found, calls


def _size_factors(reference: Reference, ratio: Tested) -> Iterator[Apart]:
    yield apart("ratio", ratio.adata.obs["size_factors"], reference.size_factors)
    for kind in ("poscounts", "iterate"):
        yield apart(kind, Tested(reference, size_factors=kind).adata.obs["size_factors"], reference.per_sample(kind))


def _shared(reference: Reference, ratio: Tested) -> list[Apart]:
    meta, facts = reference.meta, ratio.facts
    rows = [
        apart("trend coefficients", facts["trend_coefficients"], list(meta["trend_coefs"].values())),
        apart("prior variance", facts["prior_variance"], meta["dispPriorVar"]),
        apart("variance of log residuals", facts["var_log_dispersions"], meta["varLogDispEsts"]),
        apart("Cook's cut-off", facts["cooks_cutoff"], meta["cooksCutoff"]),
    ]
    for alpha, key in ((0.1, "independentFiltering"), (0.05, "independentFiltering05")):
        ratio.ask(alpha=alpha)
        for name, own in (("filterThreshold", "filter_threshold"), ("filterTheta", "filter_theta")):
            rows.append(apart(f"{name}, alpha {alpha}", ratio.facts[own], meta[key][name]))
    return rows


def _coefficients(fit: pd.DataFrame, theirs: pd.DataFrame) -> list[Apart]:
    rows = []
    for kind in ("beta", "SE"):
        names = [name for name in theirs if name.startswith(f"{kind}_")]
        own = [name for name in fit if name.startswith(f"{kind}:")]
        rows += columns(fit, theirs, dict(zip(names, own, strict=True)))
    return rows


def _wald(reference: Reference, ratio: Tested, calls: list[list]) -> Tables:
    theirs = reference.table("deseq2_wald_results")
    ours = ratio.ask()
    rows = columns(ours, theirs, same(*COLUMNS))
    calls += [calls_row("Wald", level, ours["padj"].loc[theirs.index], theirs["padj"]) for level in (0.05, 0.1)]
    stricter = ratio.ask(alpha=0.05)
    rows += columns(stricter, theirs, {"padj_alpha0.05": "padj"})
    calls.append(calls_row("Wald, alpha .05", 0.05, stricter["padj"].loc[theirs.index], theirs["padj_alpha0.05"]))
    rows += columns(ratio.ask(independent_filtering=False), theirs, {"padj_noIndFilt": "padj"})
    no_cooks = Tested(reference, cooks=False).ask(independent_filtering=False)
    rows += columns(no_cooks, theirs, {"pvalue_noCooks": "pvalue", "padj_noCooks_noIndFilt": "padj"})
    yield "Wald test", rows + columns(ratio.fit, theirs, same("maxCooks", "cooksOutlier"))
    for name in reference.find("deseq2_contrast_*"):
        theirs = reference.table(name)
        factor, a, b = name.removeprefix("deseq2_contrast_").replace("_vs_", "_").split("_")
        ours = ratio.ask(contrast=(factor, a, b))
        calls += [calls_row(f"{a} vs {b}", at, ours["padj"].loc[theirs.index], theirs["padj"]) for at in (0.05, 0.1)]
        yield f"contrast {factor}: {a} vs {b}", columns(ours, theirs, same(*COLUMNS))


def _thresholds(reference: Reference, ratio: Tested, calls: list[list]) -> Tables:
    theirs, rows = reference.table("deseq2_lfcThreshold1"), []
    for name, own in ALTERNATIVES.items():
        ours = ratio.ask(lfc_threshold=1.0, alternative=own)
        rows += columns(ours, theirs, {f"{column}_{name}": column for column in ("stat", "pvalue", "padj")})
        padj = theirs[f"padj_{name}"]
        calls += [calls_row(f"threshold 1, {name}", at, ours["padj"].loc[theirs.index], padj) for at in (0.05, 0.1)]
    yield "lfcThreshold = 1", rows


def _lrt(reference: Reference, calls: list[list]) -> Tables:
    theirs = reference.table("deseq2_lrt_results")
    ours = Tested(reference, test="lrt", reduced=reference.first_factor).ask()
    calls += [calls_row("LRT", level, ours["padj"].loc[theirs.index], theirs["padj"]) for level in (0.05, 0.1)]
    yield "likelihood ratio test", columns(ours, theirs, same(*COLUMNS))


def _shrunken(reference: Reference) -> Tables:
    theirs, rows = reference.table("deseq2_lfcShrink"), []
    for kind in ("normal", "apeglm"):
        ours = Tested(reference, shrink=kind).ask()
        names = {f"{kind}_lfc": "log2FoldChange", f"{kind}_se": "lfcSE"}
        rows += columns(ours, theirs, names | ({"apeglm_svalue": "svalue"} if kind == "apeglm" else {}))
        distance = np.abs(ours["log2FoldChange"].loc[theirs.index] - theirs[f"{kind}_lfc"])
        one = np.ones(distance.notna().sum())
        rows.append(apart(f"{kind}_lfc, absolute log2", one + distance.dropna(), one))
    yield "lfcShrink", rows


def _other_fits(reference: Reference, calls: list[list]) -> Tables:
    theirs = reference.table("deseq2_other_fits")
    for kind in ("local", "mean"):
        tested = Tested(reference, fit_type=kind)
        names = [f"{kind}_{name}" for name in ("dispFit", "dispersion", "dispMAP", "dispOutlier", "pvalue", "padj")]
        both = tested.fit.join(tested.ask()[["pvalue", "padj"]])
        rows = columns(both, theirs, {name: name.removeprefix(f"{kind}_") for name in names})
        prior = reference.meta[f"{kind}_dispPriorVar"]
        rows.append(apart("prior variance", tested.facts["prior_variance"], prior))
        padj = both["padj"].loc[theirs.index]
        calls += [calls_row(f"trend: {kind}", level, padj, theirs[f"{kind}_padj"]) for level in (0.05, 0.1)]
        yield f"trend: {kind}", rows
    tested = Tested(reference, size_factors="poscounts")
    names = ("log2FoldChange", "pvalue", "padj")
    rows = columns(tested.fit, theirs, {"poscounts_dispersion": "dispersion"})
    rows += columns(tested.ask(), theirs, {f"poscounts_{name}": name for name in names})
    padj = tested.ask()["padj"].loc[theirs.index]
    calls += [calls_row("poscounts", level, padj, theirs["poscounts_padj"]) for level in (0.05, 0.1)]
    yield "size factors: poscounts", rows


def _by_sample(reference: Reference) -> Tables:
    """Means, leverages, Cook's distances and stabilised values of some genes in every sample."""
    model, design = _model(reference)
    counts = reference.counts
    among = {name: i for i, name in enumerate(counts.index[model.counts.genes])}
    rows = []
    for name in ("mu", "hat", "cooks"):
        theirs = reference.table(f"deseq2_{name}_300genes")
        some = model.only(np.array([among[gene] for gene in theirs.index]))
        found = moments(some.regression, some.dispersions.final, some.coefficients.beta, some.coefficients.diverged)
        y = counts.loc[theirs.index].to_numpy(np.float64)
        robust = robust_dispersion(y / reference.size_factors, design_cells(design))
        cooks = cooks_distance(y, found.mu, found.hat, robust, design.shape[1])
        rows.append(apart(name, {"mu": found.mu, "hat": found.hat, "cooks": cooks}[name], theirs))
    adata, theirs = reference.adata(), reference.table("deseq2_vst_300genes")
    dbx.tl.vst(adata, reference.design, blind=False)
    rows.append(apart("vst, blind = FALSE", adata[:, theirs.index].layers["vst"].T, theirs))
    yield "300 genes in every sample", rows


def _model(reference: Reference):
    """(the fitted model, its design matrix)."""
    factors = {
        name: Codes(np.asarray(column.cat.codes), tuple(column.cat.categories))
        if hasattr(column, "cat")
        else column.to_numpy(np.float64)
        for name, column in reference.samples.items()
    }
    design = make_design(reference.design, factors, len(reference.samples)).matrix
    blocks = RowBlocks(np.ascontiguousarray(reference.counts.to_numpy(np.float64).T), dtype=np.float64)
    return fit_model(blocks, Settings(design, reference.size_factors)), design


def simulated(reference: Reference) -> tuple[list[Apart], list[list], SimpleNamespace]:
    """(errors, rows of calls, results) of a set with R's complete results, or with its p-values alone."""
    tested = Tested(reference, alpha=SYNTH_ALPHA)
    ours, meta, facts = tested.ask(), reference.meta, tested.facts
    trend = list(meta["trend_coefs"].values()) if meta["trend_coefs"] else []
    if reference.has("deseq2_full"):
        theirs = reference.table("deseq2_full")
        names = ("baseMean", "dispGeneEst", "dispFit", "dispMAP", "dispersion", "dispOutlier", "betaConv", "maxCooks")
        rows = columns(tested.fit, theirs, same(*names, "replace"))
        rows += _coefficients(tested.fit, theirs) + columns(ours, theirs, same("stat", "pvalue", "padj"))
        padj = theirs["padj"]
    else:
        theirs = reference.table("r_methods")
        rows = columns(ours, theirs, {"DESeq2_lfc": "log2FoldChange", "DESeq2_p": "pvalue", "DESeq2_padj": "padj"})
        padj = theirs["DESeq2_padj"]
    rows.append(apart("size factors", tested.adata.obs["size_factors"], reference.size_factors))
    rows.append(apart("trend coefficients", facts["trend_coefficients"] if trend else [], trend))
    for name, own in (
        ("dispPriorVar", "prior_variance"),
        ("varLogDispEsts", "var_log_dispersions"),
        ("filterThreshold", "filter_threshold"),
        ("filterTheta", "filter_theta"),
    ):
        rows.append(apart(name, facts[own], meta[name]))
    calls = [calls_row(reference.name, 0.05, ours["padj"].loc[theirs.index], padj)]
    return rows, calls, SimpleNamespace(trend=facts["trend"], table=ours.loc[reference.counts.index])


def report(folder: Path) -> tuple[str, list[str]]:
    """(Markdown, what is above the tolerance on airway)."""
    parts, beyond = [], []
    found, calls = airway(Reference(folder / "airway"))
    for title, rows in found:
        parts += [f"### airway: {title}", errors_table(rows)]
        beyond += [f"{title}: {row.quantity}" for row in rows if row.is_beyond and not row.quantity.startswith(EARLY)]
    parts += ["### airway: calls", table(CALLS_HEAD, calls)]
    sets, calls, results = references(folder / "synth"), [], {}
    for reference in sets:
        rows, more, results[reference.name] = simulated(reference)
        calls += more
        trend = f"trend: R {reference.meta['fitType']}, dbx {results[reference.name].trend}"
        parts += [f"### {reference.name} ({reference.design}; {trend})", errors_table(rows)]
    parts += ["### simulated sets: calls", table(CALLS_HEAD, calls)]
    parts += ["### No change anywhere: shares of p-values", calibration(folder / "synth", sets, results)]
    parts += ["### Power at padj < .05", power(sets, results)]
    parts += ["### All changes in one direction", size_factor_variants(folder / "synth")]
    return "\n\n".join(parts), beyond
