"""Growth from marker genes, as recorded steps before the one that reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dbx.ops.transport.marker_growth import MarkerGrowth
from dbx.program import run_step
from dbx.tl.score_genes import score_genes

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

Markers = Mapping[str, Sequence[str] | str]
PROCESSES = ("proliferation", "apoptosis")


def checked_markers(markers: Markers) -> Markers:
    """The markers of both processes.

    Raises
    ------
    ValueError
        There are others, or not both.
    """
    if not isinstance(markers, Mapping) or set(markers) != set(PROCESSES):
        got = sorted(map(str, markers)) if isinstance(markers, Mapping) else markers
        msg = (
            'growth_genes must be {"proliferation": ..., "apoptosis": ...}, each a list of genes or the name of a '
            f"column of obs with scores; got {got!r}."
        )
        raise ValueError(msg)
    return markers


def growth_columns(key: str) -> dict[str, str]:
    """Columns of ``obs`` that are written with gene lists: the scores of the processes, and growth."""
    return {name: f"{key}_{name}" for name in (*PROCESSES, "prior_growth")}


def run_marker_growth(adata: AnnData | MuData, markers: Markers, *, key: str, seed: int, mod: str | None = None) -> str:
    """Score the processes that are given by genes, and write growth; the name of its column of ``obs``."""
    columns = growth_columns(key)
    for process in PROCESSES:
        genes = markers[process]
        if isinstance(genes, str):
            columns[process] = genes
        else:
            score_genes(adata, genes, score_name=columns[process], random_state=seed, mod=mod)
    run_step(
        adata,
        MarkerGrowth(),
        reads={process: (f"obs/{columns[process]}",) for process in PROCESSES},
        writes={"growth": f"obs/{columns['prior_growth']}"},
        mod=mod,
    )
    return columns["prior_growth"]
