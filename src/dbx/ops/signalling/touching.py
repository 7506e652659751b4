"""Ligand times receptor over touching cells, against positions permuted within each group."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Progress, silent
from dbx.ops.signalling.complexes import Complexes
from dbx.ops.signalling.permuted import ROUNDING
from dbx.ops.signalling.tails import upper_tail
from dbx.ops.space.neighbors import spatial_graph, warn_of_far_cells, warn_of_shared_places

CELLS_TIMES_PAIRS = 1 << 22
"""Values held at a time of the ligands, and of the receptors, of some pairs."""


class Contacts:
    """Which cells touch, with what the moments under permutation need of it; groups are ``codes``.

    ``n_edges``, ``spread``, ``skew`` and ``shared`` have shape (n_groups, n_groups): a cell of the first group has so
    many touching cells in the second.
    """

    def __init__(self, touching: sparse.csr_matrix, codes: np.ndarray, n_groups: int):
        self.touching, self.codes = touching, codes
        n_cells = len(codes)
        self.member = sparse.csr_matrix((np.ones(n_cells), (codes, np.arange(n_cells))), (n_groups, n_cells))
        self.sizes = np.bincount(codes, minlength=n_groups).astype(float)
        self.degree = (touching @ self.member.T).toarray()
        self.n_edges = self.member @ self.degree
        centred = self.degree - (self.n_edges / self.sizes[:, None])[codes]
        self.spread, self.skew = self.member @ centred**2, self.member @ centred**3
        edges = touching.tocoo()
        one, other = codes[edges.row], codes[edges.col]
        product = centred[edges.row, other] * centred[edges.col, one]
        self.shared = np.bincount(one * n_groups + other, product, minlength=n_groups**2).reshape(n_groups, n_groups)
        self.squared_degree = self.member @ self.degree**2


def contacts(points: np.ndarray, codes: np.ndarray, n_groups: int, *, radius: float | None, n_neighs: int) -> Contacts:
    """Cells within a radius or, for None, among the nearest neighbours of either; ``codes`` are of all these cells."""
    found = spatial_graph(
        points,
        coord_type="knn" if radius is None else "radius",
        n_neighs=n_neighs,
        radius=radius,
        symmetric=True,
    )
    graph = found.to_csr()
    if not graph.nnz:
        msg = f"No cells touch: none are within radius={radius:g} of each other. Increase it, or leave it out."
        raise ValueError(msg)
    warn_of_shared_places(points, np.zeros(len(points)))
    if radius is None:
        warn_of_far_cells(found)
    graph.data = np.ones(graph.nnz)
    return Contacts(graph, codes, n_groups)


class Local(NamedTuple):
    """Arrays of shape (n_groups, n_groups, n_pairs): sender, receiver, pair."""

    z: np.ndarray
    """Sum over touching cells of ligand times receptor, standardised."""
    pvalue: np.ndarray


def local_scores(
    x: RowBlocks,
    cells: np.ndarray,
    found: Contacts,
    means: np.ndarray,
    ligands: Complexes,
    receptors: Complexes,
    *,
    n_perms: int = 0,
    seed: int = 0,
    progress: Progress = silent,
) -> Local:
    """Sums over touching senders and receivers, and their tails.

    Mean and variance under permutations within groups are exact, the third moment is that of independent cells. With
    ``n_perms`` the tail is counted among permutations instead.

    Parameters
    ----------
    x
        Blocks of a matrix of shape (n_cells, n_genes).
    cells
        Rows of the cells of the contacts.
    found
        Their contacts.
    means
        Array of shape (n_groups, n_genes), by which the weakest subunit of a complex is chosen in each group.
    ligands, receptors
        Genes of the pairs.
    n_perms
        Number of permutations, 0 for none.
    seed
        Of the permutations.
    """
    n_groups, n_pairs = len(found.sizes), len(ligands.n_subunits)
    z, pvalue = (np.empty((n_groups, n_groups, n_pairs)) for _ in range(2))
    for part, ligand, receptor in _parts(x, cells, found.codes, means, ligands, receptors):
        total = _sums(found, ligand, receptor)
        mean, variance, third = _moments(found, ligand, receptor)
        sd = np.sqrt(np.maximum(variance, 0))
        varies = sd > ROUNDING * np.abs(mean)
        z[:, :, part] = np.divide(total - mean, sd, out=np.zeros_like(sd), where=varies)
        if n_perms:
            pvalue[:, :, part] = _permuted(found, ligand, receptor, total, n_perms, np.random.default_rng(seed))
        else:
            skewness = np.divide(third, sd**3, out=np.zeros_like(sd), where=varies)
            pvalue[:, :, part] = np.where(varies, upper_tail(z[:, :, part], skewness), 1.0)
        progress(part.stop, n_pairs)
    return Local(z, pvalue)


def _parts(x: RowBlocks, cells, codes, means, ligands: Complexes, receptors: Complexes) -> Iterator:
    """Some pairs at a time: (which, ligand and receptor of each cell, arrays of shape (n_cells, some pairs))."""
    n_pairs = len(ligands.n_subunits)
    size = max(CELLS_TIMES_PAIRS // max(len(cells), 1), 1)
    for start in range(0, n_pairs, size):
        part = slice(start, min(start + size, n_pairs))
        sides = [side.select(part) for side in (ligands, receptors)]
        used = np.unique(np.concatenate([side.columns.ravel() for side in sides]))
        values = x.select(used).dense(cells)
        weakest = [np.searchsorted(used, side.weakest(means)) for side in sides]
        ligand, receptor = (np.take_along_axis(values, of_group[codes], axis=1) for of_group in weakest)
        yield part, ligand, receptor


def _sums(found: Contacts, ligand: np.ndarray, receptor: np.ndarray) -> np.ndarray:
    """Sums over touching cells, an array of shape (n_groups, n_groups, n_pairs)."""
    total = []
    for receiver in range(len(found.sizes)):
        there = np.where((found.codes == receiver)[:, None], receptor, 0)
        total.append(found.member @ (ligand * (found.touching @ there)))
    return np.stack(total, axis=1)


def _permuted(found: Contacts, ligand, receptor, total, n_perms: int, rng) -> np.ndarray:
    order = np.argsort(found.codes, kind="stable")
    ends = np.cumsum(found.sizes).astype(int)
    count, least = np.zeros(total.shape, np.int64), total - ROUNDING * np.abs(total)
    at = np.empty(len(order), int)
    for _ in range(n_perms):
        at[order] = np.concatenate([rng.permutation(part) for part in np.split(order, ends[:-1])])
        count += _sums(found, ligand[at], receptor[at]) >= least
    return (1 + count) / (1 + n_perms)


def _moments(found: Contacts, ligand: np.ndarray, receptor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, variance and third central moment of the sums."""
    senders, receivers = found.sizes[:, None, None], found.sizes[None, :, None]
    of_ligand, of_receptor = (_of_groups(found, values) for values in (ligand, receptor))
    n_edges = found.n_edges[:, :, None]
    a, b = of_ligand.mean[:, None], of_receptor.mean[None]
    with np.errstate(divide="ignore", invalid="ignore"):  # groups of one cell, whose moments are zero
        var_l = np.nan_to_num(of_ligand.second[:, None] / (senders - 1), posinf=0)
        var_r = np.nan_to_num(of_receptor.second[None] / (receivers - 1), posinf=0)
    out, into = found.spread[:, :, None], found.spread.T[:, :, None]
    # sum of the squares of the contacts, which are 0 or 1, once their rows and columns are centred
    rest = n_edges - found.squared_degree[:, :, None] / receivers - found.squared_degree.T[:, :, None] / senders
    rest = rest + n_edges**2 / (senders * receivers)
    mean = n_edges * a * b
    variance = a**2 * into * var_r + b**2 * out * var_l + np.maximum(rest, 0) * var_l * var_r
    third_l, third_r = of_ligand.third[:, None] / senders, of_receptor.third[None] / receivers
    third = a**3 * found.skew.T[:, :, None] * third_r + b**3 * found.skew[:, :, None] * third_l
    third = third + 6 * a * b * var_l * var_r * found.shared[:, :, None]
    third = third + 3 * a * var_l * third_r * into + 3 * b * var_r * third_l * out + third_l * third_r * n_edges
    within = _within(found, ligand, receptor)
    own = np.arange(len(found.sizes))
    mean[own, own], variance[own, own] = within
    return mean, variance, third


class _Moments(NamedTuple):
    mean: np.ndarray
    second: np.ndarray
    third: np.ndarray


def _of_groups(found: Contacts, values: np.ndarray) -> _Moments:
    mean = (found.member @ values) / found.sizes[:, None]
    centred = values - mean[found.codes]
    return _Moments(mean, found.member @ centred**2, found.member @ centred**3)


def _within(found: Contacts, ligand: np.ndarray, receptor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance within each group, where a cell's ligand and receptor move together (Mantel, 1967).

    Moments of the sum of a_ij b_ij over i and j, for a the contacts and b_ij = (l_i r_j + l_j r_i) / 2.
    """
    n = found.sizes[:, None]
    own = np.arange(len(found.sizes))
    a0 = found.n_edges[own, own][:, None]
    a2 = found.squared_degree[own, own][:, None]
    a1 = a0  # contacts are 0 or 1
    both = ligand * receptor
    sum_l, sum_r, sum_lr = (found.member @ values for values in (ligand, receptor, both))
    b0 = sum_l * sum_r - sum_lr
    row = 0.5 * (ligand * (sum_r[found.codes] - receptor) + receptor * (sum_l[found.codes] - ligand))
    b2 = found.member @ row**2
    b1 = 0.5 * ((found.member @ ligand**2) * (found.member @ receptor**2) + sum_lr**2) - found.member @ both**2
    with np.errstate(divide="ignore", invalid="ignore"):  # groups of fewer than four cells
        mean = a0 * b0 / (n * (n - 1))
        square = 2 * a1 * b1 / (n * (n - 1)) + 4 * (a2 - a1) * (b2 - b1) / (n * (n - 1) * (n - 2))
        square = square + (a0**2 + 2 * a1 - 4 * a2) * (b0**2 + 2 * b1 - 4 * b2) / (n * (n - 1) * (n - 2) * (n - 3))
    few = n < 4
    return np.where(few, 0, mean), np.where(few, 0, square - mean**2)
