"""Variance-stabilising transformation of counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dbx.ops.de.design.design import variables
from dbx.ops.de.vst import VST
from dbx.program import check_key, log, matrix_slot, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def vst(
    adata: AnnData | MuData,
    design: str | None = None,
    *,
    blind: bool = True,
    layer: str | None = None,
    size_factors: Literal["ratio", "poscounts"] = "ratio",
    fit_type: Literal["parametric", "local", "mean"] = "parametric",
    key_added: str = "vst",
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Transform counts to a scale on which their variance does not depend on the mean; log2 for large counts.

    For plots, distances and clusters of samples: bulk libraries, or the counts of cells summed per sample. Values are
    normalised by size factors. ``dbx.rerun`` transforms new samples, one by one, with the fitted parameters.

    Parameters
    ----------
    adata
        Raw counts of samples by genes.
    design
        Wilkinson formula over columns of ``obs``, such as ``"~ batch + condition"``: differences that it explains do
        not count as dispersion. Only with ``blind=False``.
    blind
        Take all differences between samples as dispersion, as is right for looking at the data without a hypothesis.
        If many genes differ strongly between conditions, this shrinks the differences; pass False then.
    layer
        Layer with the counts, if not in X.
    size_factors
        ``"ratio"``, the median of ratios over genes without a zero; ``"poscounts"``, which also takes genes with zeros.
    fit_type
        Trend of dispersions over means: ``"parametric"`` (asymptDisp + extraPois / mean; if that does not fit, a
        local regression, with a warning), ``"local"`` or ``"mean"``, one dispersion for all genes.
    key_added
        Layer for the values.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes ``layers["vst"]`` (or ``layers[key_added]``), float64 and dense: a
    count of 0 is not 0 on this scale.

    Raises
    ------
    ValueError
        X does not hold counts; every gene has a zero and ``size_factors="ratio"``; ``design`` and ``blind`` contradict
        each other; the design cannot be fitted; genes vary no more than Poisson counts.
    SlotError
        A column of the design is not in ``obs``.

    Notes
    -----
    DESeq2's ``varianceStabilizingTransformation`` (Anders and Huber, Genome Biology, 2010; Love, Huber and Anders,
    Genome Biology, 2014), on all genes, where DESeq2's quicker ``vst`` estimates the trend from 1,000 of them. For
    thousands of single cells ``dbx.pp.normalize_total`` and ``dbx.pp.log1p`` keep zeros sparse.
    """
    check_key(key_added)
    if blind != (design is None):
        msg = (
            "blind=False needs a design: differences that it explains do not count as dispersion."
            if design is None
            else f"blind=True does not use the design {design!r}: leave it out, or pass blind=False."
        )
        raise ValueError(msg)
    formula = "~ 1" if design is None else design
    columns = variables(formula)
    operator = VST(design=formula, fit_type=fit_type, size_factors=size_factors)
    result = run_step(
        adata,
        operator,
        reads={"counts": matrix_slot(layer)} | ({"frame": [f"obs/{name}" for name in columns]} if columns else {}),
        writes={"transformed": f"layers/{key_added}"},
        copy=copy,
        mod=mod,
    )
    if operator.kind != fit_type:
        log.warn("The parametric trend of dispersions does not fit these counts; a local regression was taken instead.")
    return result
