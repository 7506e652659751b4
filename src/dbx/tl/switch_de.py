"""Genes that switch on or off along pseudotime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.ops.checks import as_names, did_you_mean, listed
from dbx.ops.switches.switch_de import SwitchDE
from dbx.program import (
    Slot,
    check_key,
    exists,
    gene_names,
    holder,
    log,
    looks_like_counts,
    matrix_slot,
    read,
    resolve_seed,
    run_step,
)

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

SIGNIFICANT = 0.05


def switch_de(
    adata: AnnData | MuData,
    pseudotime: str,
    *,
    layer: str | None = None,
    likelihood: str = "nb",
    zero_inflated: bool = False,
    genes: Sequence[str] | None = None,
    size_factors: str | Sequence[float] | None = "auto",
    covariates: str | Sequence[str] | None = None,
    dispersion: str = "mle",
    min_strength: float | None = None,
    max_strength: float | None = None,
    n_starts: int = 8,
    alternative_curve: str | None = "spline",
    calibrate: str | None = "f",
    n_perms: int = 100,
    block_genes: int = 512,
    key_added: str = "switch_de",
    random_state: Any = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Find genes that switch on or off along pseudotime, and when.

    The mean of each gene's counts is ``size * (floor + (plateau - floor) * sigmoid(k * (t - t0)))``: it goes from one
    level to the other at ``t0``, the switch time, the faster the larger the strength ``k``, which is positive if the
    gene switches on. Strength and time are found on a grid first, which sees every maximum of the likelihood, and all
    parameters then by Newton's method. The test is a likelihood ratio against a constant gene.

    Parameters
    ----------
    adata
        Annotated data with counts; with ``likelihood="gaussian"``, logarithmised.
    pseudotime
        Column of ``obs`` with the pseudotime, such as ``"dpt_pseudotime"``. Cells without one are left out.
    layer
        Layer with the values, instead of ``X``.
    likelihood
        ``"nb"``, negative binomial counts; ``"zinb"``, the same with extra zeros; ``"gaussian"``, log expression around
        ``plateau * sigmoid(k * (t - t0))``, without a floor, the model of switchde.
    zero_inflated
        With ``"gaussian"``: expression x is lost as a zero with probability exp(-lambda * x**2), the zero-inflated
        model of switchde; the curve is that of the expression before.
    genes
        Names of the genes to fit; all by default.
    size_factors
        ``"auto"``, ``obs["size_factors"]`` if there are some, else the cells' totals over their mean; a column of
        ``obs``; one number for each cell; or None, all 1. Log expression has none.
    covariates
        Columns of ``obs`` whose effects multiply the mean (are added to log expression), such as a batch.
    dispersion
        ``"mle"``, each gene's own; ``"trend"``, under a prior about the trend of dispersions over means.
    min_strength, max_strength
        Bounds of the absolute strength. By default, 4.4 over the range of pseudotime for counts, with which a switch
        takes the whole range from 10% to 90%, hardly above 0 for log expression, and 100 over the range.
    n_starts
        Most maxima of the grid that a fit starts from.
    alternative_curve
        ``"spline"``: compare with a natural cubic spline of 5 degrees of freedom too, for the column ``shape``; None
        only with a constant and a trend.
    calibrate
        Null distribution of the likelihood ratio: ``"f"``, a scaled chi-squared distribution with the mean and the
        variance of the ratios of 200 or more genes of like mean under permuted pseudotime; ``"permutation"``, with
        those of the gene itself in ``n_perms`` permutations; None, chi-squared with 3 degrees of freedom (2 for
        ``"gaussian"``), which is only roughly right, as strength and time mean nothing for a constant gene.
    n_perms
        Permutations for ``calibrate="permutation"``.
    block_genes
        Most genes that are fitted at a time.
    key_added
        Key in ``varm``.
    random_state
        Seed of the permutations.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``varm["switch_de"]`` (or ``varm[key_added]``)
        Frame with a row for each gene, NaN for those that were not fitted or have no counts: ``pvalue``; ``padj``
        (Benjamini and Hochberg); ``switch_time`` and ``strength`` with their standard errors ``switch_time_se`` and
        ``strength_se``, NaN at a bound, in the units of the pseudotime; ``floor`` and ``plateau``, the lower and the
        higher level for a size factor of 1; ``log2_fold_change`` from the first to the last cell on the curve;
        ``dispersion`` (of counts, the variance is mean + dispersion * mean**2; of log expression, the variance);
        ``zero_inflation``, the probability of an extra zero, or lambda of ``zero_inflated``; ``log_likelihood``;
        ``shape``; ``converged``; ``statistic``, the likelihood ratio. ``shape`` is what the Bayesian information
        criterion prefers: ``"none"`` (constant), ``"gradual"`` (a trend), ``"switch"`` or ``"transient"`` (a spline
        that turns; one that does not is a trend or a switch, whichever is preferred).
    ``uns["switch_de"]``
        What it was made of: ``pseudotime``, ``values``, ``size_factors`` and ``likelihood``, for the plots.
    ``layers["switch_fitted"]`` (``layers[key_added + "_fitted"]`` for another key)
        The curves at the pseudotime of the cells, for a size factor of 1; an array of shape (n_cells, n_genes),
        float32.

    Raises
    ------
    ValueError
        The values are not counts; the pseudotime is constant, not numeric or missing in all cells; too few cells; no
        gene is expressed; size factors that are not positive; covariates that determine each other; unknown genes.
    SlotError
        A column is not in ``obs``.

    Notes
    -----
    The reference implementation is switchde in R (Campbell and Yau, Bioinformatics, 2017). A significant gene need not
    be a switch: a short burst of expression is not constant either, and has the shape ``"transient"``. Pseudotime that
    was made from the same genes makes p-values too small, which no permutation can show.

    Examples
    --------
    >>> import dbx
    >>> import numpy as np
    >>> adata = dbx.datasets.simulate(200, 50, 1, 1, seed=0)
    >>> adata.obs["t"] = np.linspace(0, 1, 200)
    >>> dbx.tl.switch_de(adata, "t")
    >>> adata.varm["switch_de"].columns[:4].tolist()
    ['pvalue', 'padj', 'switch_time', 'switch_time_se']
    """
    check_key(key_added)
    source = matrix_slot(layer)
    place = Slot.parse(source, mod)
    reads, constants = _size_slots(adata, size_factors, likelihood, key_added, mod)
    if covariates is not None:
        reads["covariates"] = [f"obs/{name}" for name in as_names(covariates, "covariates")]
    operator = SwitchDE.declared({"likelihood": likelihood})(
        likelihood=likelihood,
        zero_inflated=zero_inflated,
        genes=None if genes is None else _numbers_of(as_names(genes, "genes"), gene_names(adata, place)),
        size_factors=size_factors is not None,
        dispersion=dispersion,
        min_strength=min_strength,
        max_strength=max_strength,
        n_starts=n_starts,
        alternative_curve=alternative_curve,
        calibrate=calibrate,
        n_perms=n_perms,
        block_genes=block_genes,
    )
    if likelihood == "gaussian" and looks_like_counts(read(adata, place)):
        log.warn(
            'These look like raw counts, for which likelihood="nb" is meant. For "gaussian" take logarithms first: '
            "dbx.pp.normalize_total(adata); dbx.pp.log1p(adata)."
        )
    of_totals = "totals" if operator.size_factors and likelihood != "gaussian" else ""
    made_of = {
        "pseudotime": pseudotime,
        "values": source,
        "size_factors": reads["sizes"][0].partition("/")[2] if "sizes" in reads else of_totals,
        "likelihood": likelihood,
    }
    fitted = "switch_fitted" if key_added == "switch_de" else f"{key_added}_fitted"
    result = run_step(
        adata,
        operator,
        reads={"x": source, "pseudotime": [f"obs/{pseudotime}"], **reads},
        writes={"table": f"varm/{key_added}", "fitted": f"layers/{fitted}"},
        constants={**constants, f"uns/{key_added}": made_of},
        name=key_added if key_added != "switch_de" else None,
        seed=resolve_seed(random_state),
        copy=copy,
        mod=mod,
    )
    _report(holder(adata if result is None else result, place), pseudotime, key_added)
    return result


def _size_slots(adata, size_factors, likelihood: str, key: str, mod: str | None) -> tuple[dict[str, Any], dict]:
    """The slot of the size factors, and their values if they were passed."""
    if size_factors is None or likelihood == "gaussian":
        return {}, {}
    if isinstance(size_factors, str):
        auto = size_factors == "auto"
        name = "size_factors" if auto else size_factors
        return ({} if auto and not exists(adata, Slot("obs", (name,), mod)) else {"sizes": [f"obs/{name}"]}), {}
    values, slot = np.asarray(size_factors, np.float64), f"obs/{key}_size_factors"
    n_cells = holder(adata, Slot("obs", mod=mod)).n_obs
    if values.shape != (n_cells,):
        msg = f"size_factors must have one number for each of the {n_cells} cells; its shape is {values.shape}."
        raise ValueError(msg)
    return {"sizes": [slot]}, {slot: values}


def _numbers_of(wanted: list, names) -> tuple[int, ...]:
    at = names.get_indexer([str(name) for name in wanted])
    unknown = [name for name, number in zip(wanted, at, strict=True) if number < 0]
    if unknown or not wanted:
        msg = (
            f"genes: the data have no {listed(unknown)}." if unknown else "genes is empty: name genes, or leave it out."
        )
        raise ValueError(msg + (did_you_mean(unknown[0], names) if unknown else ""))
    return tuple(map(int, np.unique(at)))


def _report(data: AnnData, pseudotime: str, key: str) -> None:
    time = data.obs[pseudotime].to_numpy(np.float64)
    missing = int((~np.isfinite(time)).sum())
    if missing:
        log.warn(f"{missing} of {len(time)} cells have no obs[{pseudotime!r}] and were left out.")
    table = data.varm[key]
    called = table["padj"] < SIGNIFICANT
    on = int((called & (table["strength"] > 0)).sum())
    log.hint(
        f"    {int(called.sum())} of {int(table['pvalue'].notna().sum())} genes have padj < {SIGNIFICANT}: "
        f"{on} switch on, {int(called.sum()) - on} off"
    )
