"""Harmony's correction: in each cluster, a ridge regression of the embedding on the batches."""

from __future__ import annotations

import numpy as np


def kept_levels(observed, cells_of, key_of, threshold):
    """Levels that are corrected in a cluster: those with cells in it, if their key has at least two.

    Parameters
    ----------
    observed
        Array of shape (n_levels, n_clusters): cells of each level in each cluster.
    cells_of, key_of
        Arrays of shape (n_levels,): cells of each level, and the key it belongs to.
    threshold
        Minimum fraction of a level's cells; None keeps all levels.
    """
    keys = np.eye(key_of.max() + 1, dtype=int)[key_of]
    least = -1 if threshold is None else threshold * cells_of[:, None]
    present = (observed > least) & (cells_of > 0)[:, None]
    return present & ((keys.T @ present) > 1)[key_of]


def ridge(sizes, sums, levels, penalty, kept):
    """Coefficients of the regression in every cluster, intercept unpenalised.

    Parameters
    ----------
    sizes, sums
        Arrays of shape (n_combinations, n_clusters) and (n_combinations, n_clusters, n_columns): cells of each
        combination of batches in each cluster, and the sums of their rows.
    levels
        Array of shape (n_combinations, n_keys): each key's level, numbered over the levels of all keys; -1 for none.
    penalty, kept
        Arrays of shape (n_levels, n_clusters): ridge penalty, and the levels that have a coefficient.

    Returns
    -------
    Intercepts of shape (n_clusters, n_columns) and coefficients of shape (n_levels, n_clusters, n_columns), zero for
    levels that are not kept. The intercept is NaN in a cluster where no level is kept.
    """
    solve = _one_key if levels.shape[1] == 1 else _several_keys
    sizes, sums, penalty = (np.asarray(values, np.float64) for values in (sizes, sums, penalty))
    return solve(sizes, sums, levels, penalty, kept)


def _one_key(sizes, sums, levels, penalty, kept):
    """The normal equations of one key form an arrowhead matrix: eliminating the levels gives the intercept."""
    n_levels = len(penalty)
    level = levels[:, 0]
    own = level >= 0
    of_level, total = np.zeros((n_levels, *sizes.shape[1:])), np.zeros((n_levels, *sums.shape[1:]))
    of_level[level[own]], total[level[own]] = sizes[own], sums[own]
    shrunk = np.where(kept, penalty / np.where(kept, of_level + penalty, 1), 0)
    with np.errstate(invalid="ignore"):
        weight = (shrunk * of_level).sum(axis=0) + sizes[~own].sum(axis=0)
        intercept = ((shrunk[..., None] * total).sum(axis=0) + sums[~own].sum(axis=0)) / weight[:, None]
    effect = (total - of_level[..., None] * intercept) / np.where(kept, of_level + penalty, 1)[..., None]
    return intercept, np.where(kept[..., None], effect, 0)


def _several_keys(sizes, sums, levels, penalty, kept):
    n_levels, n_clusters = penalty.shape
    design = np.zeros((len(levels), n_levels))
    for level in levels.T:
        design[np.flatnonzero(level >= 0), level[level >= 0]] = 1
    intercept = np.full((n_clusters, sums.shape[-1]), np.nan)
    coefficients = np.zeros((n_levels, n_clusters, sums.shape[-1]))
    for k in range(n_clusters):
        columns = np.flatnonzero(kept[:, k])
        if not len(columns):
            continue
        rows = (design[:, columns].sum(axis=1) > 0) | (levels < 0).all(axis=1)
        x = np.column_stack([np.ones(rows.sum()), design[np.ix_(rows, columns)]])
        gram = (x * sizes[rows, k, None]).T @ x + np.diag(np.append(0, penalty[columns, k]))
        solution = np.linalg.solve(gram, x.T @ sums[rows, k])
        intercept[k], coefficients[columns, k] = solution[0], solution[1:]
    return intercept, coefficients
