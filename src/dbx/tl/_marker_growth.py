"""Growth from marker genes, as recorded steps before the one that reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast

from dbx.datasets import growth_markers
from dbx.ops.checks import listed
from dbx.ops.transport.marker_growth import MarkerGrowth
from dbx.program import run_step
from dbx.tl.score_genes import Source, score_genes

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData

Markers = Mapping[str, Sequence[str] | str]
Organism = Literal["human", "mouse"]
PROCESSES = ("proliferation", "apoptosis")
ORGANISMS = ("human", "mouse")
ENSEMBL = r"ENS[A-Z]*G\d{6,}"
"""Identifiers of genes, with or without a version."""
ENOUGH = 0.1
"""Fraction of the markers of an organism that must be among the genes."""


def checked_markers(adata: AnnData | MuData, markers: Markers | str, mod: str | None = None) -> Markers:
    """The markers of both processes, given or of an organism.

    Raises
    ------
    ValueError
        There are others, or not both; hardly any marker of the organism is among the genes.
    """
    if isinstance(markers, str) and markers in ORGANISMS:
        return _of_organism(adata, cast("Organism", markers), mod)
    if not isinstance(markers, Mapping) or set(markers) != set(PROCESSES):
        got = sorted(map(str, markers)) if isinstance(markers, Mapping) else markers
        msg = (
            'growth_genes must be {"proliferation": ..., "apoptosis": ...}, each a list of genes or the name of a '
            f'column of obs with scores, or "human" or "mouse"; got {got!r}.'
        )
        raise ValueError(msg)
    return markers


def _of_organism(adata: AnnData | MuData, organism: Organism, mod: str | None) -> Markers:
    """The markers of an organism that are among the genes."""
    names, found = Source.of(adata, None, None, mod).names, {}
    for process, genes in growth_markers(organism).items():
        found[process] = [gene for gene in genes if gene in names]
        if len(found[process]) < ENOUGH * len(genes):
            msg = (
                f"Only {len(found[process])} of {len(genes)} {process} genes of {organism}, such as "
                f"{listed(genes[:3])}, are among var_names ({listed(names[:3])}): growth_genes={organism!r} needs its "
                f"gene symbols, in their case. {_instead(names, organism, process)}"
            )
            raise ValueError(msg)
    return found


def _instead(names: pd.Index, organism: Organism, process: str) -> str:
    """What to do where hardly any marker is among the genes."""
    if names.astype(str).str.match(ENSEMBL).mean() > 0.5:
        return (
            "These are Ensembl identifiers: make symbols the names, adata.var_names = adata.var['gene_symbols'] or "
            "whichever column has them, or pass lists of identifiers."
        )
    other: Organism = "mouse" if organism == "human" else "human"
    if names.isin(growth_markers(other)[process]).any():
        return f"Pass growth_genes={other!r}, or lists of genes."
    return "Pass lists of genes."


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
