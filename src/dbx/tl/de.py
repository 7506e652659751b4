"""Differential expression of counts with a design."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dbx.ops.de.design.design import variables
from dbx.ops.de.fit_table import KINDS
from dbx.ops.de.nb_glm import NBGLM
from dbx.ops.de.results.wald import ALTERNATIVES
from dbx.program import log, matrix_slot, run_step
from dbx.program.slots.slots import Slot, holder

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

MANY = 100
"""From so many observations on they may be cells."""
CHOICES = {
    "test": ("wald", "lrt"),
    "fit_type": ("parametric", "local", "mean"),
    "dispersion": ("deseq2", "exact"),
    "shrink": (None, "apeglm", "normal"),
    "alternative": tuple({**ALTERNATIVES, **dict.fromkeys(ALTERNATIVES.values())}),
}


def de(
    adata: AnnData | MuData,
    design: str | pd.DataFrame | np.ndarray,
    *,
    contrast: str | Sequence[str] | Sequence[float] | None = None,
    layer: str | None = None,
    sample_key: str | None = None,
    group_key: str | None = None,
    test: Literal["wald", "lrt"] = "wald",
    reduced: str | Sequence[str] | None = None,
    size_factors: str = "ratio",
    fit_type: Literal["parametric", "local", "mean"] = "parametric",
    dispersion: Literal["deseq2", "exact"] = "deseq2",
    min_mu: float | None = None,
    shrink: Literal["apeglm", "normal"] | None = None,
    lfc_threshold: float = 0.0,
    alternative: str = "two-sided",
    alpha: float = 0.1,
    cooks: bool = True,
    independent_filtering: bool = True,
    min_cells: int = 1,
    key_added: str = "de",
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Test every gene for differential expression with a negative binomial regression, as DESeq2 does.

    Counts K of a gene are modelled as K ~ NB(s exp(X beta), dispersion), with size factors s and a design X, and a test
    asks whether a contrast of beta is zero. Meant for samples: bulk libraries, or cells summed per sample
    (``sample_key``), with a model for each cell type if wanted (``group_key``). Called again for another contrast, test
    threshold or false discovery rate it takes the recorded fit.

    Parameters
    ----------
    adata
        Raw counts of samples by genes, or of cells by genes with ``sample_key``.
    design
        Wilkinson formula over columns of ``obs``, such as ``"~ batch + condition"``, where the first category of a
        factor is its reference; or a design matrix with a row for each sample, a DataFrame or an array.
    contrast
        What to test: ``("condition", "treated", "control")`` compares two levels; a text is a coefficient
        (``"condition[T.treated]"``, or DESeq2's ``"condition_treated_vs_control"``) or a linear combination of
        coefficients and levels (``"conditionB - conditionA"``); numbers are a weight for each coefficient. None takes
        the last coefficient.
    layer
        Layer with the counts, if not in X.
    sample_key
        Column of ``obs`` with the sample of each cell: counts are summed per sample, and the design is about samples.
    group_key
        Column of ``obs`` with groups of cells, such as cell types: one model within each, of the samples' cells in it.
    test
        ``"wald"``, or ``"lrt"``: a likelihood ratio test against the ``reduced`` design, which the contrast then has
        no part in except for the fold change that is reported.
    reduced
        Formula of the reduced design, or the names of the design matrix's columns that stay.
    size_factors
        ``"ratio"``, the median of ratios over genes without a zero; ``"poscounts"``, which also takes genes with zeros;
        ``"iterate"``, by maximum likelihood; ``"deges"``, medians of ratios over the genes that the test does not call,
        found in turn with the test: for conditions in which most changes go one way; or a column of ``obs`` with size
        factors of your own.
    fit_type
        The trend of dispersions over means: ``"parametric"``, or where that fails and when asked for ``"local"``;
        ``"mean"``.
    dispersion
        ``"deseq2"``, the values that DESeq2 returns; ``"exact"``, the maxima of the likelihoods that DESeq2 searches,
        which it does not find for genes that vary little. Exact ones call more genes and are less conservative: with 8
        samples the false discovery rate came to .06 at a nominal .05, against .04.
    min_mu
        Means below this many counts are taken as this in the regression's weights. None is 0.5 as in DESeq2, and 1e-6
        from 500 rows on, which must then be cells: with 0.5 a quarter of the true changes among 5,000 cells were lost,
        all of genes with few counts (recall .77 against .995).
    shrink
        Report shrunken fold changes: ``"apeglm"`` (a Cauchy prior, with s-values) or ``"normal"``. Tests stay those of
        the fold changes without shrinkage.
    lfc_threshold, alternative
        Test for changes, log2, beyond a threshold: ``"two-sided"`` (DESeq2's greaterAbs), ``"greater"``, ``"less"``, or
        within it: ``"less-abs"``.
    alpha
        False discovery rate that independent filtering is tuned for.
    cooks
        Replace counts that are outliers by Cook's distance where a condition has 7 samples or more, and give no p-value
        to a gene that one outlier decides where it has 3 to 6. Outliers among cells (500 rows on) are not replaced.
    independent_filtering
        Leave genes with small means out of the adjustment, so that more are called.
    min_cells
        Sums of fewer cells are left out.
    key_added
        Key in ``varm`` and ``uns``.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes, with ``"de"`` standing for ``key_added``:

    ``varm["de"]``
        Frame with a row for each gene: ``baseMean``, the mean of counts divided by size factors; ``log2FoldChange``
        and its standard error ``lfcSE``, log2; ``stat``; ``pvalue``; ``padj``; after apeglm ``svalue``. A gene without
        counts has a mean of 0 and NaN elsewhere; one that an outlier decides has no p-value; one below the filter no
        padj.
    ``varm["de_fit"]``
        Frame: ``baseVar``, dispersions (``dispGeneEst``, ``dispFit``, ``dispMAP``, ``dispersion``), ``maxCooks``,
        flags (``dispOutlier``, ``cooksOutlier``, ``replace``, ``betaConv``), coefficients ``beta:<name>`` and their
        standard errors ``SE:<name>``, log2.
    ``obs["size_factors"]``
        Size factors of the samples; with ``sample_key`` they are in ``uns["de"]["samples"]``.
    ``uns["de"]``
        ``params``, the settings; ``reads``, the slots of counts, samples and groups; ``fit``, what genes share (trend,
        prior, filter). With ``group_key`` there is no
        ``varm``: ``uns["de"]["results"]`` is a long frame with a ``group`` column, and ``fit`` one row for each group.

    Raises
    ------
    ValueError
        X holds no counts; a column of the design has missing values or one level, or differs within a sample;
        coefficients cannot be told apart, or there are no replicates; an unknown level, coefficient or setting; every
        gene has a zero and ``size_factors="ratio"``.
    SlotError
        A column is not in ``obs``.

    Notes
    -----
    After DESeq2 (Love, Huber and Anders, Genome Biology, 2014), held against version 1.38.3 in R; apeglm after Zhu,
    Ibrahim and Love (Bioinformatics, 2019). The hard counterparts are DESeq2 and, for cells,
    :func:`scanpy.tl.rank_genes_groups`. Cells of one sample are not replicates of a treatment: tested as if they were,
    p-values come out far too small, and dbx says so.
    """
    choices = {"test": test, "fit_type": fit_type, "dispersion": dispersion, "shrink": shrink}
    _check({**choices, "alternative": alternative}, alpha, lfc_threshold, min_mu)
    _check_keys(sample_key, group_key, test, reduced, design)
    holds = holder(adata, Slot("X", mod=mod))
    matrix = None if isinstance(design, str) else _as_frame(design, holds.obs_names)
    operator = NBGLM(
        design=design if matrix is None else tuple(map(str, matrix)),
        contrast=_plain(contrast),
        reduced=reduced if reduced is None or isinstance(reduced, str) else tuple(map(str, reduced)),
        **choices,
        size_factors=size_factors,
        min_mu=min_mu,
        lfc_threshold=float(lfc_threshold),
        alternative=ALTERNATIVES.get(alternative, alternative),
        alpha=float(alpha),
        cooks=cooks,
        independent_filtering=independent_filtering,
        min_cells=min_cells,
        group_key=group_key,
    )
    if sample_key is None and holds.n_obs >= MANY:
        log.warn(
            f"{holds.n_obs} observations are tested as if each were a sample of its own. If they are cells, they are "
            "not replicates, and p-values come out too small: name the column of their samples (sample_key=)."
        )
    reads = _reads(operator, matrix_slot(layer), sample_key, group_key)
    of_cells = {name: slot for name, slot in reads.items() if name != "frame"}
    constants: dict[str, Any] = {f"uns/{key_added}": {"reads": of_cells}}
    if matrix is not None:
        constants[f"obsm/{key_added}_design"] = matrix
        reads["matrix"] = f"obsm/{key_added}_design"
    writes = _writes(operator, key_added, sample_key)
    result = run_step(
        adata,
        operator,
        reads=reads,
        writes=writes,
        constants=constants,
        name="de",
        copy=copy,
        mod=mod,
        resume=True,
    )
    _tell(holder(result if copy else adata, Slot("X", mod=mod)), key_added, alpha)
    return result


def _check(choices: dict[str, Any], alpha: float, lfc_threshold: float, min_mu: float | None) -> None:
    for name, value in choices.items():
        if value not in CHOICES[name]:
            there = ", ".join(map(repr, CHOICES[name]))
            msg = f"{name}={value!r} is none of {there}."
            raise ValueError(msg)
    if not 0 < alpha < 1:
        msg = f"alpha={alpha} is no false discovery rate: it lies between 0 and 1."
        raise ValueError(msg)
    alternative = ALTERNATIVES.get(choices["alternative"], choices["alternative"])
    if lfc_threshold < 0 or (alternative == "less-abs" and lfc_threshold == 0):
        msg = (
            f"lfc_threshold={lfc_threshold}: a threshold is not negative, and alternative='less-abs' needs one above 0."
        )
        raise ValueError(msg)
    if choices["test"] == "lrt" and (lfc_threshold or alternative != "two-sided"):
        msg = 'A likelihood ratio test has no threshold and no alternative: take test="wald".'
        raise ValueError(msg)
    if min_mu is not None and not min_mu > 0:
        msg = f"min_mu={min_mu}: the smallest mean must be positive."
        raise ValueError(msg)


def _check_keys(sample_key, group_key, test: str, reduced, design) -> None:
    if (test == "lrt") != (reduced is not None):
        msg = 'test="lrt" compares with a reduced design, such as reduced="~ batch"; other tests have none.'
        raise ValueError(msg)
    if group_key is not None and sample_key is None:
        msg = f"group_key={group_key!r} needs sample_key, the column that says which sample each cell is from."
        raise ValueError(msg)
    if sample_key is not None and not isinstance(design, str):
        msg = "With sample_key the design is a formula over columns of obs: the samples are made here."
        raise ValueError(msg)


def _plain(contrast) -> str | tuple | None:
    if contrast is None or isinstance(contrast, str):
        return contrast
    return tuple(part if isinstance(part, str) else float(part) for part in contrast)


def _as_frame(design: pd.DataFrame | np.ndarray, samples: pd.Index) -> pd.DataFrame:
    """A design matrix of one's own, with the names of samples and coefficients."""
    import pandas as pd

    if not isinstance(design, pd.DataFrame):
        design = np.asarray(design, np.float64)
        if design.ndim != 2 or len(design) != len(samples):
            msg = f"A design matrix has a row for each of the {len(samples)} samples; its shape is {design.shape}."
            raise ValueError(msg)
        return pd.DataFrame(design, index=samples, columns=[f"x{i}" for i in range(design.shape[1])])
    missing = samples.difference(design.index)
    if len(missing) or not design.index.is_unique:
        what = f"lacks {len(missing)} samples ({missing[0]!r} ...)" if len(missing) else "has samples twice"
        msg = f"The design matrix {what}: its index must be adata.obs_names."
        raise ValueError(msg)
    return design.loc[samples].astype(np.float64)


def _reads(operator: NBGLM, counts: str, sample_key: str | None, group_key: str | None) -> dict[str, Any]:
    formulas = [text for text in (operator.design, operator.reduced) if isinstance(text, str)]
    columns = [name for formula in formulas for name in variables(formula)]
    columns += [] if operator.size_factors in KINDS else [operator.size_factors]
    reads: dict[str, Any] = {"counts": counts}
    if columns:
        reads["frame"] = [f"obs/{name}" for name in dict.fromkeys(columns)]
    keys = {"sample": sample_key, "group": group_key}
    return reads | {name: f"obs/{key}" for name, key in keys.items() if key is not None}


def _writes(operator: NBGLM, key: str, sample_key: str | None) -> dict[str, str]:
    writes = {"params": f"uns/{key}/params", "facts": f"uns/{key}/fit"}
    if operator.group_key is None:
        writes |= {"table": f"varm/{key}", "fit_table": f"varm/{key}_fit"}
    else:
        writes["long_table"] = f"uns/{key}/results"
    if sample_key is not None:
        writes["samples"] = f"uns/{key}/samples"
    elif operator.size_factors != "size_factors":
        computed = "own_size_factors" if operator.size_factors == "iterate" else "size_factors"
        writes[computed] = "obs/size_factors"
    return writes


def _tell(adata: AnnData, key: str, alpha: float) -> None:
    """Say what was called, and what is doubtful."""
    grouped = "results" in adata.uns[key]
    table, fit = adata.uns[key]["results"] if grouped else adata.varm[key], adata.uns[key]["fit"]
    called = table["padj"] < alpha
    up = int((called & (table["log2FoldChange"] > 0)).sum())
    where = f" in {table['group'].nunique()} groups" if grouped else ""
    log.hint(
        f"    {int(called.sum())} of {len(table)} genes have padj < {alpha}{where}: "
        f"{up} up, {int(called.sum()) - up} down"
    )
    if not grouped and fit["note"]:
        log.warn(fit["note"])
    skipped = fit[fit["trend"] == "none"] if grouped else []
    if len(skipped):
        reasons = "; ".join(f"{group}: {note}" for group, note in zip(skipped["group"], skipped["note"], strict=True))
        log.warn(f"{len(skipped)} groups could not be tested. {reasons}")
