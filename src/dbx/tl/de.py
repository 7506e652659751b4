"""Differential expression of counts with a design."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, cast

from dbx.ops.de.nb_glm import NBGLM
from dbx.program import Slot, check_key, holder, matrix_slot, run_step
from dbx.tl._de import (
    check_keys,
    design_frame,
    foreign_size_factors,
    read_slots,
    report,
    warn_of_cells,
    written_slots,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


def de(
    adata: AnnData | MuData,
    design: str | pd.DataFrame | np.ndarray,
    *,
    contrast: str | Sequence[Any] | None = None,
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
    (``sample_key``), with a model for each cell type with ``group_key``. Called again for another contrast, test
    threshold or false discovery rate, it reuses the recorded fit.

    Parameters
    ----------
    adata
        Raw counts of samples by genes, or of cells by genes with ``sample_key``.
    design
        Wilkinson formula over columns of ``obs``, such as ``"~ batch + condition"``, where the first category of a
        factor is its reference; or a design matrix with a row for each sample, a DataFrame or an array.
    contrast
        What to test: ``("condition", "treated", "control")`` compares two levels; a string is a coefficient
        (``"condition[T.treated]"``, or DESeq2's ``"condition_treated_vs_control"``) or a linear combination of
        coefficients and levels (``"conditionB - conditionA"``); numbers are a weight for each coefficient. None means
        the last coefficient. Levels of booleans and numbers may be named by value: ``("treated", True, False)``.
    layer
        Layer with the counts, if not in X.
    sample_key
        Column of ``obs`` with the sample of each cell: counts are summed per sample, and the design is one of samples.
    group_key
        Column of ``obs`` with groups of cells, such as cell types: one model for each, on the sums of
        its cells per sample.
    test
        ``"wald"``, or ``"lrt"``: a likelihood ratio test against the ``reduced`` design; the contrast then only
        determines the reported fold change.
    reduced
        Formula of the reduced design, or the names of the design matrix's columns to keep.
    size_factors
        ``"ratio"``, the median of ratios over genes without a zero; ``"poscounts"``, which also takes genes with zeros;
        ``"iterate"``, by maximum likelihood; ``"deges"``, medians of ratios over genes that the test does not call,
        alternating with the test: for conditions in which most changes are in one direction; or a column of ``obs``
        with size factors from elsewhere.
    fit_type
        Trend of dispersions over means: ``"parametric"``, with ``"local"`` if that fails; ``"local"`` or
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
        Report shrunken fold changes: ``"apeglm"`` (a Cauchy prior, with s-values) or ``"normal"``. A normal prior is on
        the coefficient that a contrast names or, where it compares levels, the same for all levels of each factor, so
        that the reference level makes no difference (R's ``coef=`` and ``contrast=``). Tests are those of the fold
        changes without shrinkage.
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
        Size factors of the samples, with a warning where this replaces values from elsewhere; with ``sample_key``
        they are in ``uns["de"]["samples"]``.
    ``uns["de"]``
        ``params``, the settings; ``reads``, the slots of counts, samples and groups; ``fit``, what genes share (trend,
        prior, filter). With ``group_key`` there is no
        ``varm``: ``uns["de"]["results"]`` is a long frame with a ``group`` column, and ``fit`` one row for each group.

    Raises
    ------
    ValueError
        X does not hold counts; a column of the design has missing values or one level, or differs within a sample;
        coefficients are not identifiable, or there are no replicates; an unknown level, coefficient or setting; every
        gene has a zero and ``size_factors="ratio"``.
    SlotError
        A column is not in ``obs``.

    Notes
    -----
    After DESeq2 (Love, Huber and Anders, Genome Biology, 2014), compared with version 1.38.3 in R; apeglm after Zhu,
    Ibrahim and Love (Bioinformatics, 2019). The reference implementation is DESeq2; for cells see
    :func:`scanpy.tl.rank_genes_groups`. Cells of one sample are not replicates of a treatment: tested as if they were,
    p-values are far too small, and dbx warns.
    """
    check_key(key_added)
    check_keys(sample_key, group_key, design)
    x = Slot("X", mod=mod)
    samples = holder(adata, x)
    matrix = None if isinstance(design, str) else design_frame(design, samples.obs_names)
    operator = NBGLM(
        design=cast(str, design) if matrix is None else tuple(map(str, matrix)),
        contrast=contrast,
        test=test,
        reduced=reduced,
        size_factors=size_factors,
        fit_type=fit_type,
        dispersion=dispersion,
        min_mu=min_mu,
        shrink=shrink,
        lfc_threshold=lfc_threshold,
        alternative=alternative,
        alpha=alpha,
        cooks=cooks,
        independent_filtering=independent_filtering,
        min_cells=min_cells,
        group_key=group_key,
    )
    if sample_key is None:
        warn_of_cells(samples.n_obs)
    reads = read_slots(operator, matrix_slot(layer), sample_key, group_key)
    of_cells = {name: slot for name, slot in reads.items() if name != "frame"}
    constants: dict[str, Any] = {f"uns/{key_added}": {"reads": of_cells}}
    if matrix is not None:
        reads["matrix"] = f"obsm/{key_added}_design"
        constants[reads["matrix"]] = matrix
    writes = written_slots(operator, key_added, sample_key)
    replaced = foreign_size_factors(adata, writes, mod)
    result = run_step(
        adata, operator, reads=reads, writes=writes, constants=constants, name="de", copy=copy, mod=mod, resume=True
    )
    report(holder(result if copy else adata, x), key_added, operator.alpha, replaced)
    return result
