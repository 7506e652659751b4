"""p-values of pairs of group means from the moments of all permutations of the labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dbx.ops.signalling.complexes import Complexes
from dbx.ops.signalling.pair_moments import GeneMoments
from dbx.ops.signalling.tails import joint_upper_tail, upper_tail


class LabelSums(NamedTuple):
    """Sums over cells of powers of u and v, each cell's weight in the mean of the sender and the receiver, centred.

    Arrays of shape (n_groups, n_groups): sender, receiver.
    """

    uu: np.ndarray
    uv: np.ndarray
    vv: np.ndarray
    uuu: np.ndarray
    uuv: np.ndarray
    uvv: np.ndarray
    vvv: np.ndarray

    @classmethod
    def of(cls, sizes: np.ndarray) -> LabelSums:
        """From the number of cells of each group."""
        n_groups, n_cells = len(sizes), sizes.sum()
        g, h = np.divmod(np.arange(n_groups**2), n_groups)
        same = g == h
        weight = 1 / sizes
        # cells of the sender, cells of the receiver unless it is the same, all others
        count = np.stack([sizes[g], np.where(same, 0, sizes[h]), n_cells - sizes[g] - np.where(same, 0, sizes[h])])
        u = np.stack([weight[g], np.zeros(len(g)), np.zeros(len(g))]) - 1 / n_cells
        v = np.stack([np.where(same, weight[g], 0), np.where(same, 0, weight[h]), np.zeros(len(g))]) - 1 / n_cells
        powers = [(2, 0), (1, 1), (0, 2), (3, 0), (2, 1), (1, 2), (0, 3)]
        return cls(*((count * u**i * v**j).sum(axis=0).reshape(n_groups, n_groups) for i, j in powers))


def pair_columns(ligands: Complexes, receptors: Complexes) -> np.ndarray:
    """Every two genes of each pair, whose moments :func:`analytic_pvalues` needs: an array of shape (n, 2)."""
    genes = np.concatenate([ligands.columns, receptors.columns], axis=1)
    one, other = np.triu_indices(genes.shape[1], k=1)
    return np.unique(np.stack([genes[:, one].ravel(), genes[:, other].ravel()], axis=1), axis=0)


def analytic_pvalues(
    moments: GeneMoments, sizes: np.ndarray, observed: np.ndarray, ligands: Complexes, receptors: Complexes
) -> np.ndarray:
    """P(mean of ligand and receptor is at least the observed) over all permutations of the labels.

    Mean, variance and third moment of the sum of two group means are exact (Hoeffding, Annals of Mathematical
    Statistics, 1951); the tail is that of Pearson's type III. Where a side is a complex, the weakest subunit reaches a
    value if all do: their joint tail.

    Returns
    -------
    Array of shape (n_groups, n_groups, n_pairs): sender, receiver, pair.
    """
    sums = LabelSums.of(sizes)
    n_groups, n_pairs = len(sizes), len(ligands.n_subunits)
    pvalue = np.empty((n_groups, n_groups, n_pairs))
    least = ligands.least(observed)[:, None] + receptors.least(observed)[None]
    shapes = np.stack([ligands.n_subunits, receptors.n_subunits], axis=1)
    for n_ligand, n_receptor in np.unique(shapes, axis=0):
        at = np.flatnonzero((shapes == (n_ligand, n_receptor)).all(axis=1))
        one, other = np.divmod(np.arange(n_ligand * n_receptor), n_receptor)
        a, b = ligands.columns[at][:, one].T, receptors.columns[at][:, other].T
        events = [_tail(moments, sums, least[:, :, at], *genes) for genes in zip(a, b, strict=True)]
        tails = np.stack([tail for tail, _ in events], axis=-1)
        if len(events) == 1:
            pvalue[:, :, at] = tails[..., 0]
            continue
        sd = np.sqrt(np.stack([variance for _, variance in events], axis=-1))
        shared = np.empty((*sd.shape, len(events)))
        for i, j in np.ndindex(len(events), len(events)):
            shared[..., i, j] = _covariance(moments, sums, a[i], b[i], a[j], b[j])
        scale = sd[..., None] * sd[..., None, :]
        correlation = np.divide(shared, scale, out=np.zeros_like(shared), where=scale > 0)
        correlation[..., range(len(events)), range(len(events))] = 1
        pvalue[:, :, at] = np.minimum(joint_upper_tail(tails, correlation), tails.min(axis=-1))
    return pvalue


def _tail(moments: GeneMoments, sums: LabelSums, least: np.ndarray, a: np.ndarray, b: np.ndarray):
    """Tail and variance of the sum of the mean of gene a in the sender and of gene b in the receiver."""
    n = moments.n_cells
    ab, aab, abb = moments.mixed(a, b)
    variance = (_outer(sums.uu, moments.second[a]) + 2 * _outer(sums.uv, ab) + _outer(sums.vv, moments.second[b])) / (
        n - 1
    )
    third = _outer(sums.uuu, moments.third[a]) + 3 * _outer(sums.uuv, aab)
    third = third + 3 * _outer(sums.uvv, abb) + _outer(sums.vvv, moments.third[b])
    third *= n / ((n - 1) * max(n - 2, 1))
    sd = np.sqrt(np.maximum(variance, 0))
    varies = sd > 0
    z = np.divide(least - moments.mean[a] - moments.mean[b], sd, out=np.zeros_like(sd), where=varies)
    skewness = np.divide(third, sd**3, out=np.zeros_like(sd), where=varies)
    return np.where(varies, upper_tail(z, skewness), 1.0), np.maximum(variance, 0)


def _covariance(moments: GeneMoments, sums: LabelSums, a, b, c, d) -> np.ndarray:
    """Covariance of (a in the sender + b in the receiver) with (c in the sender + d in the receiver)."""
    ac, ad, bc, bd = (moments.mixed(*genes)[0] for genes in ((a, c), (a, d), (b, c), (b, d)))
    total = _outer(sums.uu, ac) + _outer(sums.uv, ad) + _outer(sums.uv, bc) + _outer(sums.vv, bd)
    return total / (moments.n_cells - 1)


def _outer(of_groups: np.ndarray, of_pairs: np.ndarray) -> np.ndarray:
    return of_groups[:, :, None] * of_pairs
