"""Tables of marker genes, converted to the column numbers that an operator takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from dbx.ops.checks import listed
from dbx.program import log


def marker_columns(
    markers: Mapping[str, Sequence[str]] | pd.DataFrame, genes: pd.Index
) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """(cell types, the column numbers of the markers of each).

    Raises
    ------
    ValueError
        The table has an unknown format, or a type has no marker among ``genes``.
    """
    of_types = _as_lists(markers)
    number = {str(gene): i for i, gene in reversed(list(enumerate(genes)))}
    missing = {name: [g for g in of_type if g not in number] for name, of_type in of_types.items()}
    lost = [name for name, of_type in of_types.items() if of_type and len(missing[name]) == len(of_type)]
    if lost:
        msg = (
            f"No marker of {listed(lost)} is among the genes ({listed(genes) or 'no gene'}): the markers are "
            f"{listed(of_types[lost[0]])}. Use names of var_names, or leave these types out."
        )
        raise ValueError(msg)
    absent = sorted({gene for genes_of_type in missing.values() for gene in genes_of_type})
    if absent:
        log.warn(f"{len(absent)} markers are not among var_names and are left out: {listed(absent)}.")
    columns = {name: tuple(sorted({number[g] for g in of_type if g in number})) for name, of_type in of_types.items()}
    return tuple(columns), tuple(columns.values())


def _as_lists(markers) -> dict[str, list[str]]:
    if isinstance(markers, Mapping):
        single = [name for name, genes in markers.items() if isinstance(genes, str)]
        if single:
            msg = f"The markers of {single[0]!r} are a single string: pass a list of genes, [{markers[single[0]]!r}]."
            raise ValueError(msg)
        return {str(name): [str(gene) for gene in genes] for name, genes in markers.items()}
    if not isinstance(markers, pd.DataFrame):
        msg = f"markers must be a dict of lists or a DataFrame; got {type(markers).__name__}."
        raise TypeError(msg)
    if {"cell_type", "gene"} <= set(markers.columns):
        pairs = markers[["cell_type", "gene"]].dropna().astype(str)
        return {name: list(part) for name, part in pairs.groupby("cell_type", sort=False)["gene"]}
    if all(pd.api.types.is_numeric_dtype(t) or pd.api.types.is_bool_dtype(t) for t in markers.dtypes):
        return {str(name): list(markers.index[markers[name] > 0].astype(str)) for name in markers}
    msg = (
        "A DataFrame of markers must have the columns 'cell_type' and 'gene', or be an indicator matrix of genes by "
        f"cell types; got the columns {listed(markers.columns)}."
    )
    raise ValueError(msg)
