"""Phases of the cell cycle, with scanpy's signature and keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from dbx.ops.annotation.cell_cycle import CellCycle
from dbx.ops.checks import as_names
from dbx.program import resolve_seed, run_step
from dbx.tl._control_genes import Draws
from dbx.tl.score_genes import Source, among

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

SETTINGS = ("ctrl_as_ref", "gene_pool", "n_bins", "random_state", "rng", "use_raw", "layer")


def score_genes_cell_cycle(
    adata: AnnData | MuData,
    *,
    s_genes: Sequence[str] | pd.Index,
    g2m_genes: Sequence[str] | pd.Index,
    copy: bool = False,
    mod: str | None = None,
    **kwargs: Any,
) -> AnnData | MuData | None:
    """Score the genes of S and of G2M phase, and assign a phase to each cell (Tirosh et al., Science, 2016).

    As :func:`scanpy.tl.score_genes_cell_cycle`. New cells are scored with the same genes and control genes.

    Parameters
    ----------
    adata
        The annotated data, with log-normalised values.
    s_genes, g2m_genes
        Names of the genes of each phase; those that are not in ``var_names`` are warned of by name and ignored.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData.
    **kwargs
        ``ctrl_as_ref``, ``gene_pool``, ``n_bins``, ``random_state``, ``rng``, ``use_raw`` and ``layer`` of
        :func:`dbx.tl.score_genes`. Its ``ctrl_size`` is the length of the shorter list.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs["S_score"]``, ``obs["G2M_score"]``
        The scores, float64.
    ``obs["phase"]``
        ``"G1"`` where both scores are negative, otherwise ``"G2M"`` or ``"S"``, that of the higher score; categorical,
        while scanpy writes text.

    Raises
    ------
    TypeError
        An unknown argument, or ``ctrl_size`` or ``score_name``, which are fixed.
    ValueError
        As :func:`dbx.tl.score_genes`.
    """
    if wrong := [name for name in kwargs if name not in SETTINGS]:
        msg = f"score_genes_cell_cycle does not take {', '.join(wrong)}; it takes {', '.join(SETTINGS)}."
        raise TypeError(msg)
    source = Source.of(adata, kwargs.pop("use_raw", None), kwargs.pop("layer", None), mod)
    seed = resolve_seed(kwargs.pop("random_state", 0), kwargs.pop("rng", None))
    sizes = (len(as_names(s_genes, "s_genes")), len(as_names(g2m_genes, "g2m_genes")))
    draws = Draws(**kwargs, seed=seed, ctrl_size=min(sizes))
    s, s_controls = source.genes_and_controls(s_genes, "s_genes", draws)
    g2m, g2m_controls = source.genes_and_controls(g2m_genes, "g2m_genes", draws)
    mask, columns = among(source.names, s, s_controls, g2m, g2m_controls)
    names = ("s_genes", "s_controls", "g2m_genes", "g2m_controls")
    return run_step(
        adata,
        CellCycle(**dict(zip(names, columns, strict=True))),
        reads={"x": source.slot},
        writes={"s_score": "obs/S_score", "g2m_score": "obs/G2M_score", "phase": "obs/phase"},
        select=mask,
        copy=copy,
        mod=mod,
    )
