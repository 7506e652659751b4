"""Tables of marker genes, converted to the column numbers that an operator takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

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
    listed = _listed(markers)
    number = {str(gene): i for i, gene in reversed(list(enumerate(genes)))}
    missing = {name: [g for g in of_type if g not in number] for name, of_type in listed.items()}
    lost = [name for name, of_type in listed.items() if of_type and len(missing[name]) == len(of_type)]
    if lost:
        msg = (
            f"No marker of {_some(lost)} is among adata.var_names ({_some(genes)}): the markers are "
            f"{_some(listed[lost[0]])}. Use the names of adata.var_names, or leave these types out."
        )
        raise ValueError(msg)
    absent = sorted({gene for genes_of_type in missing.values() for gene in genes_of_type})
    if absent:
        log.warn(f"{len(absent)} markers are not among adata.var_names and are left out: {_some(absent, 10)}.")
    columns = {name: tuple(sorted({number[g] for g in of_type if g in number})) for name, of_type in listed.items()}
    return tuple(columns), tuple(columns.values())


def _listed(markers) -> dict[str, list[str]]:
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
        f"cell types; got the columns {_some(markers.columns)}."
    )
    raise ValueError(msg)


def _some(names, count: int = 5) -> str:
    names = list(map(str, names))
    return ", ".join(map(repr, names[:count])) + (" ..." if len(names) > count else "")
