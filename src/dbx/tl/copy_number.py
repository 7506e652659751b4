"""Copy number of single cells from their expression."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.ops.checks import as_names, listed
from dbx.ops.hmm.copy_number import CopyNumber
from dbx.program import Slot, log, looks_like_counts, matrix_slot, read, resolve_seed, run_step
from dbx.tl._along_genes import along_genes

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

FEWEST = 10
"""Reference cells below which their mean says little."""


def copy_number(
    adata: AnnData | MuData,
    *,
    reference_key: str | None = None,
    reference: str | Sequence[str] | None = None,
    layer: str | None = None,
    log_transform: bool = False,
    chromosome_key: str = "chromosome",
    exclude_chromosomes: Sequence[str] = ("chrX", "chrY", "chrM"),
    window: int = 101,
    clip: float = 3.0,
    n_states: int = 3,
    cluster_key: str | None = None,
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Find losses and gains of chromosome parts in single cells from their expression.

    Log expression minus that of reference cells is clipped, averaged over windows of genes along each chromosome, and
    centred by the median of the cell, as in inferCNV (Tirosh et al., Science, 2016). Loss, neutral and gain are then
    the states of a hidden Markov model whose noise is that of the reference cells; neighbouring smoothed values are not
    independent, so that the evidence of each is divided by the number of genes that a window is worth; and states are
    moved apart until at most 2% of the genes of reference cells are called altered. What is raised together for another
    reason, such as a cluster of histones or the MHC, looks the same.

    Parameters
    ----------
    adata
        Cells with log-normalised expression, and ``var[chromosome_key]``; genes are sorted by ``var["start"]`` if
        there is such a column, otherwise in their order.
    reference_key
        Column of ``obs`` with kinds of cells. By default all cells are the reference: only what differs between cells
        is seen.
    reference
        Categories of cells with two copies of everything; by default all cells that have one. A gene whose value is
        within the range of the means of several categories counts as unaltered.
    layer
        Layer with the expression instead of ``X``.
    log_transform
        Take log(1 + counts per 10,000) first.
    chromosome_key
        Column of ``var`` with the chromosome of each gene; those without one take no part.
    exclude_chromosomes
        Chromosomes that take no part, with or without ``chr``.
    window
        Number of genes of a window, with weights that fall from its middle to its ends.
    clip
        Largest absolute difference of a gene before it is smoothed.
    n_states
        Number of states, odd: loss, neutral and gain, or with 5 also twice the loss and twice the gain.
    cluster_key
        Column of ``obs``: one profile for each cluster of cells, their mean, whose noise is that of means of as many
        reference cells. Clusters of another cell type than the reference differ by their type, too.
    random_state
        Seed of the cells on which calls are calibrated.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``layers["copy_number"]``
        Smoothed difference to the reference, float32; NaN for genes that take no part.
    ``layers["copy_number_state"]``
        0 loss, 1 neutral, 2 gain (with five states 2 is neutral), int8; -1 for genes that take no part.
    ``obs["cnv_score"]``
        Mean absolute difference of each cell.
    ``uns["copy_number"]``
        ``params`` of the model, ``reference_altered``, the fraction of genes of reference cells that is called altered,
        and ``reference_deviation``.

    Raises
    ------
    KeyError
        There is no such column.
    ValueError
        A reference category is not there, no gene has a chromosome, or starts are not numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import dbx
    >>> cells = dbx.datasets.simulate(100, 200, 2, 1, seed=0)
    >>> dbx.pp.normalize_total(cells)
    >>> dbx.pp.log1p(cells)
    >>> cells.var["chromosome"] = np.repeat(["chr1", "chr2"], 100)
    >>> dbx.tl.copy_number(cells, reference_key="group", reference="group0", window=21)
    >>> cells.layers["copy_number_state"].shape
    (100, 200)
    """
    slot = Slot.parse(matrix_slot(layer), mod)
    reads = {"x": slot}
    names: tuple[str, ...] = ()
    if reference_key is not None:
        reads["kinds"] = Slot("obs", (reference_key,), mod)
        names = _reference(read(adata, reads["kinds"]), reference, reads["kinds"])
    elif reference is not None:
        msg = "reference names categories: pass reference_key, the column of obs that has them."
        raise ValueError(msg)
    if cluster_key is not None:
        reads["clusters"] = Slot("obs", (cluster_key,), mod)
    chromosomes, places = along_genes(
        adata, chromosome_key, mod, exclude=as_names(exclude_chromosomes, "exclude_chromosomes")
    )
    values = read(adata, slot)
    if values.shape[0] and looks_like_counts(values) != log_transform:
        log.warn(
            f"{slot.written()} looks like counts: take logarithms with log_transform=True."
            if not log_transform
            else f"{slot.written()} does not look like counts, and log_transform=True takes their logarithm."
        )
    operator = CopyNumber(
        chromosomes=chromosomes,
        places=places,
        reference=names,
        log_transform=log_transform,
        window=window,
        clip=clip,
        n_states=n_states,
    )
    writes = {
        "track": "layers/copy_number",
        "states": "layers/copy_number_state",
        "score": "obs/cnv_score",
        "fitted_model": "uns/copy_number",
    }
    seed = resolve_seed(random_state, None)
    return run_step(adata, operator, reads=reads, writes=writes, seed=seed, copy=copy, mod=mod)


def _reference(column: pd.Series, reference: str | Sequence[str] | None, slot: Slot) -> tuple[str, ...]:
    """Names of the categories of reference cells, checked."""
    there = column.dropna().astype(str)
    names = tuple(dict.fromkeys(there)) if reference is None else tuple(map(str, as_names(reference, "reference")))
    absent = [name for name in names if name not in set(there)]
    if absent or not names:
        known = listed(sorted(set(there))) or "no category"
        msg = f"{slot.written()} has no category {listed(absent)}; it has {known}."
        raise ValueError(msg)
    n = int(there.isin(names).sum())
    if n < FEWEST:
        log.warn(f"There are only {n} reference cells: their mean is noise that looks like copy number in all others.")
    return names
