"""Covariates of cells as columns of a regression."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dbx.ops.checks import check_finite_columns, listed
from dbx.ops.values import Codes


def covariate_matrix(columns: Mapping[str, Codes | np.ndarray] | None, cells: np.ndarray) -> np.ndarray:
    """Centred columns of some cells, an array of shape (n_cells, n_covariates); one less than levels of a category.

    Raises
    ------
    ValueError
        A column is constant, or a combination of the others.
    """
    check_finite_columns(columns or {}, "switch_de")
    parts = [np.empty((int(cells.sum()), 0))]
    for column in (columns or {}).values():
        if isinstance(column, Codes):
            codes = np.asarray(column.codes)[cells]
            parts.append((codes[:, None] == np.unique(codes)[1:]).astype(np.float64))
        else:
            values = np.asarray(column, np.float64)[cells, None]
            parts.append(values / (values.std() or 1))
    design = np.concatenate(parts, axis=1)
    design = design - design.mean(axis=0)
    if np.linalg.matrix_rank(design) < design.shape[1] or any(part.shape[1] == 0 for part in parts[1:]):
        msg = (
            f"The covariates {listed(columns or {})} are constant or determine each other among these cells: leave "
            "some of them out."
        )
        raise ValueError(msg)
    return design
