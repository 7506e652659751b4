"""Which samples a model is fitted to: all of them, or for each group of cells their sums."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.de.design.contrast import Contrast, contrast_all_zero, contrast_vector
from dbx.ops.de.design.design import Design, check_nested, make_design, matrix_design, variables
from dbx.ops.de.design.group_designs import group_designs
from dbx.ops.de.design.pseudobulk import Pseudobulk, sample_columns, sum_samples
from dbx.ops.values import Codes

Columns = Mapping[str, Codes | np.ndarray]


@dataclass(frozen=True)
class Table:
    """Samples that one model is fitted to."""

    group: str | None
    counts: RowBlocks
    design: Design
    weights: np.ndarray
    """Array of shape (n_coefficients,): the contrast."""
    compared: np.ndarray | None
    """Samples of the two levels that are compared, an array of shape (n_samples,), bool."""
    reduced: Design | None
    columns: Columns
    samples: tuple[str, ...] | None = None
    """Names of summed samples, None for rows as they are."""
    n_cells: np.ndarray | None = None

    @property
    def compares_levels(self) -> bool:
        """Whether the contrast is of levels of factors, not one coefficient of the design."""
        several = self.compared is not None or bool(np.count_nonzero(self.weights) > 1)
        return several and self.design.frame is not None

    def no_counts(self) -> np.ndarray:
        """Genes without a count in the samples that are compared, an array of shape (n_genes,), bool."""
        if self.compared is None:
            return np.zeros(self.counts.n_columns, bool)
        totals = np.zeros(self.counts.n_columns)
        for start, stop, part in self.counts.parts():
            totals += np.asarray(part[self.compared[start:stop]].sum(axis=0, dtype=np.float64)).ravel()
        return totals == 0


def one_table(formula: str, counts: RowBlocks, columns: Columns, contrast: Contrast, reduced: str | None) -> Table:
    """All rows of the counts as samples, with a design from a formula."""
    design = make_design(formula, _taken(columns, formula), counts.n_rows)
    smaller = None if reduced is None else make_design(reduced, _taken(columns, reduced), counts.n_rows)
    return _table(counts, columns, design, smaller, contrast)


def matrix_table(
    matrix: np.ndarray, names: Sequence[str], counts: RowBlocks, columns: Columns, contrast: Contrast, reduced
) -> Table:
    """All rows of the counts as samples, with a given design matrix; ``reduced`` names the columns that stay."""
    design = matrix_design(matrix, names, counts.n_rows)
    smaller = None
    if reduced is not None:
        unknown = [name for name in reduced if name not in design.names]
        if unknown:
            msg = f"The design matrix has no column {unknown[0]!r} that could stay in the reduced design."
            raise ValueError(msg)
        kept = [design.names.index(name) for name in reduced]
        smaller = Design(None, design.matrix[:, kept], tuple(reduced))
    return _table(counts, columns, design, smaller, contrast)


def _table(counts: RowBlocks, columns: Columns, design: Design, reduced: Design | None, contrast: Contrast) -> Table:
    if reduced is not None:
        check_nested(design, reduced)
    compared = contrast_all_zero(design, contrast)
    return Table(None, counts, design, contrast_vector(design, contrast), compared, reduced, columns)


def summed_tables(
    formula: str,
    counts: RowBlocks,
    columns: Columns,
    sample: Codes,
    group: Codes | None,
    group_key: str | None,
    contrast: Contrast,
    reduced: str | None,
    min_cells: int,
) -> tuple[list[Table], dict[str, str]]:
    """(tables, group -> reason why it has none) of counts summed per sample, or per sample in each group of cells."""
    summed = sum_samples(counts, sample, group, min_cells=min_cells)
    columns = sample_columns(columns, summed, group_key)
    if group is None:
        whole = one_table(formula, _blocks(summed.sums), columns, contrast, reduced)
        return [_named(whole, summed, np.arange(len(summed.n_cells)), None)], {}
    used = _used(columns, formula, reduced)
    designs, skipped = group_designs(formula, used, summed, contrast, reduced)
    tables = []
    for found in designs:
        of_group = {name: _at(column, found.rows) for name, column in columns.items()}
        compared = contrast_all_zero(found.design, contrast)
        sums = _blocks(summed.sums[found.rows])
        table = Table(found.group, sums, found.design, found.weights, compared, found.reduced, of_group)
        tables.append(_named(table, summed, found.rows, found.group))
    return tables, skipped


def _named(table: Table, summed: Pseudobulk, rows: np.ndarray, group: str | None) -> Table:
    samples = tuple(summed.sample.levels[code] for code in np.asarray(summed.sample.codes)[rows])
    return Table(**{**vars(table), "group": group, "samples": samples, "n_cells": summed.n_cells[rows]})


def _blocks(sums: np.ndarray) -> RowBlocks:
    return RowBlocks(sums, dtype=np.float64)


def _used(columns: Columns, formula: str, reduced: str | None) -> Columns:
    names = {*variables(formula), *(variables(reduced) if reduced else ())}
    return {name: columns[name] for name in names}


def _taken(columns: Columns, formula: str) -> Columns:
    return {name: columns[name] for name in variables(formula)}


def _at(column: Codes | np.ndarray, rows: np.ndarray) -> Codes | np.ndarray:
    return Codes(np.asarray(column.codes)[rows], column.levels) if isinstance(column, Codes) else column[rows]
