"""Differential expression of counts with a design."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.de.design import variables
from dbx.ops.nb_glm import NBGLM, RATIOS
from dbx.program import log, matrix_slot, run_step
from dbx.program.slots import Slot, holder

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

COLUMNS = {
    "base_mean": "baseMean",
    "log2_fold_change": "log2FoldChange",
    "lfc_se": "lfcSE",
    "stat": "stat",
    "pvalue": "pvalue",
    "padj": "padj",
}
"""Outputs of the regression and their names in DESeq2's table."""

MANY = 100
"""From so many observations on they are taken to be cells."""


def de(
    adata: AnnData | MuData,
    design: str,
    *,
    contrast: str | tuple[str, str, str] | None = None,
    layer: str | None = None,
    size_factors: str = "ratio",
    alpha: float = 0.1,
    key_added: str = "de",
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Test every gene for differential expression with a negative binomial regression.

    Counts K of a gene are modelled as K ~ NB(s exp(X beta), dispersion), with size factors s and a design X, and a Wald
    test asks whether a contrast of beta is zero. Meant for samples: bulk libraries, or the counts of cells summed per
    sample and cell type. Single cells of one sample are not replicates of a treatment; their p-values come out too
    small, and dbx says so.

    Parameters
    ----------
    adata
        Raw counts of samples by genes.
    design
        Wilkinson formula over columns of ``obs``, such as ``"~ batch + condition"``; what is tested comes last.
    contrast
        ``("condition", "treated", "control")`` compares two levels, with other factors at their first level and
        covariates at their mean; a text names one coefficient (``"condition[T.treated]"``); None takes the last one.
    layer
        Layer with the counts, if not in X.
    size_factors
        ``"ratio"``, the median of ratios over genes without a zero; ``"poscounts"``, which also takes genes with zeros;
        or a column of ``obs`` with size factors of your own.
    alpha
        False discovery rate at which the message at verbosity ``hint`` counts genes. The table does not depend on it.
    key_added
        Key in ``varm`` and ``uns``.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes ``varm["de"]`` (or ``varm[key_added]``), a frame with a row for each
    gene: ``baseMean``, the mean of counts divided by size factors; ``log2FoldChange`` and its standard error ``lfcSE``,
    log2; ``stat``, their ratio; ``pvalue`` and ``padj``; ``obs["size_factors"]``; and ``uns["de"]["params"]``. A gene
    without any count has a mean of 0 and NaN in all other columns.

    Raises
    ------
    ValueError
        X holds no counts; a column has missing values or one level; coefficients of the design cannot be told apart;
        unknown levels or coefficients in ``contrast``; every gene has a zero and ``size_factors="ratio"``.
    SlotError
        A column of the design is not in ``obs``.

    Notes
    -----
    After DESeq2 (Love, Huber and Anders, Genome Biology, 2014), of which this is not yet the whole. As there: size
    factors, the moment estimates that dispersions start from, the Cox-Reid adjusted likelihood that gene-wise
    dispersions maximise, the Wald test with the full covariance and the normal distribution. Not as there: dispersions
    are the gene-wise maxima themselves, neither shrunken to a trend nor left where DESeq2's search stops early, so
    p-values are too small with few samples; no Cook's distances, no independent filtering; means have no floor of 0.5;
    and a gene that one side never shows, which has no finite maximum likelihood, gets Firth's penalised fit
    (Biometrika, 1993). The hard counterpart is DESeq2 itself.
    """
    if not 0 < alpha < 1:
        msg = f"alpha={alpha} is no false discovery rate: it lies between 0 and 1."
        raise ValueError(msg)
    given = size_factors not in RATIOS
    columns = dict.fromkeys([*variables(design), *([size_factors] if given else [])])
    reads = {"counts": matrix_slot(layer)} | ({"frame": [f"obs/{name}" for name in columns]} if columns else {})
    writes = {output: f"varm/{key_added}/{name}" for output, name in COLUMNS.items()}
    if size_factors != "size_factors":
        writes["size_factors"] = "obs/size_factors"
    if contrast is not None and not isinstance(contrast, str):
        contrast = tuple(map(str, contrast))
    operator = NBGLM(design=design, contrast=contrast, size_factors=size_factors)
    params = {"design": design, "contrast": list(contrast) if isinstance(contrast, tuple) else contrast}
    result = run_step(
        adata,
        operator,
        reads=reads,
        writes=writes,
        constants={f"uns/{key_added}": {"params": {**params, "size_factors": size_factors, "layer": layer}}},
        name="de",
        copy=copy,
        mod=mod,
    )
    owner = holder(result if copy else adata, Slot("X", mod=mod))
    _warn_of_cells(owner.n_obs)
    table = owner.varm[key_added]
    called = table["padj"] < alpha
    up = int((called & (table["log2FoldChange"] > 0)).sum())
    log.hint(
        f"    {int(called.sum())} of {len(table)} genes have padj < {alpha}: {up} up, {int(called.sum()) - up} down"
    )
    return result


def _warn_of_cells(n_obs: int) -> None:
    if n_obs >= MANY:
        log.warn(
            f"{n_obs} observations are tested as if each were a sample of its own. If they are cells, they are not "
            "replicates, and p-values come out too small: sum the counts of each sample first."
        )
