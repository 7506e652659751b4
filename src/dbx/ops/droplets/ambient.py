"""Removal of ambient RNA: counts from the solution in a droplet, not from its cell."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import floating, row_sums, with_values
from dbx.ops.droplets.ambient_mixture import MAX_CONTAMINATION, TINY, contamination, native_share, rounded_rows
from dbx.ops.droplets.ambient_profile import first_clusters, gene_totals, group_totals
from dbx.ops.droplets.ambient_rate import shared_rate
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Array, Codes

ROUNDS = 3
CSR_ROWS = 1 << 13
MAX_LIFT = 2.0


class RemoveAmbient(Operator):
    """Counts as a mixture of the profile of a cell's cluster and the ambient profile; native counts are returned.

    A fraction ``rho`` of a cell's ``N`` counts is ambient: a gene's count is Poisson with mean
    ``N ((1 - rho) native + rho ambient)``. ``rho`` is fitted to the genes that the cell's cluster hardly expresses,
    under a gamma prior around the mean rate of the sample; the output is each count times the posterior probability
    that a count of this gene is native. A cell without a cluster (code -1, or no clusters) is assigned to the cluster
    with the highest likelihood of its counts.

    New cells: the profiles and the mean fraction; a cell's own fraction is fitted from its counts.
    """

    name = "remove_ambient"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",)),
        "cluster": Input(kind="codes", unseen="missing", missing=True, optional=True),
    }
    outputs: ClassVar = {"x": Output(), "fraction": Output(), "profile": Output(axis="genes", view=True)}
    rowwise = True
    sparse = True

    def __init__(
        self,
        *,
        integers: bool = False,
        rate: float | None = None,
        concentration: float = 50.0,
        n_clusters: int | None = None,
        from_droplets: bool = False,
    ):
        if rate is not None and not 0 <= rate < 1:
            msg = f"rate must be a fraction of the counts, from 0 to below 1; got {rate}."
            raise ValueError(msg)
        if concentration <= 0 or (n_clusters is not None and n_clusters < 1):
            msg = f"concentration={concentration} must be above 0, and n_clusters={n_clusters} at least 1."
            raise ValueError(msg)
        self.integers, self.rate, self.concentration = integers, rate, concentration
        self.n_clusters, self.from_droplets = n_clusters, from_droplets

    def given_profile(self, total: np.ndarray) -> RemoveAmbient:
        """Set the ambient profile from counts of empty droplets, an array of shape (n_genes,), before the fit."""
        self.profile = Constant(jnp.asarray(total / total.sum(), jnp.float32))
        self.support = Constant(jnp.asarray(total.sum(), jnp.float32))
        return self

    def fit(self, *, x: RowBlocks, cluster: Codes | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Estimate the ambient and cluster profiles, the mean rate, and the informative genes of each cluster."""
        if not self.from_droplets:
            self.given_profile(_some(gene_totals(x)))
        elif not hasattr(self, "profile") or self.profile[...].shape != (x.n_columns,):
            msg = "The profile of the empty droplets is not available: call dbx.pp.remove_ambient again, with raw=."
            raise ValueError(msg)
        codes = None if cluster is None else np.asarray(cluster.codes)
        n_levels = 0 if cluster is None else cluster.n_levels
        if codes is None or not (codes >= 0).any():
            observed = first_clusters(x, self.n_clusters, seed)
        else:
            given = ((part, codes[start:stop]) for start, stop, part in x.parts())
            observed = _totals(given, (n_levels, x.n_columns))
        self._set(observed, 0.0, np.zeros(len(observed)))
        observed = _totals(self._labelled(x, codes), observed.shape)
        rate = self.rate
        if rate is None:
            rate = shared_rate(observed, np.asarray(self.profile[...], np.float64), float(self.support[...]))
        liquid = rate * observed.sum(axis=1)
        for i in range(ROUNDS):
            self._set(observed, rate, liquid)
            fitted = np.zeros((3, len(observed)))
            for part, labels in self._labelled(x, codes):
                fitted += self._liquid(part, labels)
            liquid = fitted[0]
            progress(i + 1, ROUNDS, f"mean rate {rate:.3f}")
        # genes were selected for low counts, which biases the rate downwards: corrected on average, not in each cell
        expected, found = fitted[1:].sum(axis=1)
        self.lift = Constant(jnp.asarray(np.clip(expected / max(found, TINY), 1, MAX_LIFT), jnp.float32))

    def __call__(self, x, cluster: Codes | None = None):
        """Native counts, of the type of ``x``, and the fraction of each cell's counts that is ambient."""
        if sparse.issparse(x) and x.shape[0] > CSR_ROWS:
            parts = [self(x[rows], _rows_of(cluster, rows)) for rows in _slices(x.shape[0])]
            whole = sparse.vstack([part["x"] for part in parts], format="csr")
            return {"x": whole, "fraction": np.concatenate([part["fraction"] for part in parts])}
        labels = self._labels(x, None if cluster is None else cluster.codes)
        rho = self._contamination(x, labels)
        if sparse.issparse(x):
            row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
            native, ambient = (
                np.asarray(self.native[...])[labels[row], x.indices],
                np.asarray(self.profile[...])[x.indices],
            )
            cleaned = with_values(x, floating(x.data) * native_share(rho[row], native, ambient))
        else:
            x = floating(x)
            cleaned = x * native_share(rho[:, None], self.native[...][labels], self.profile[...])
        return {"x": rounded_rows(cleaned) if self.integers else cleaned, "fraction": rho}

    def _set(self, observed: np.ndarray, rate: float, liquid: np.ndarray) -> None:
        """Set the state from the counts of each cluster and the number of ambient ones."""
        ambient = np.asarray(self.profile[...], np.float64)
        soup = liquid[:, None] * ambient
        native = np.maximum(observed - soup, 0) + ambient / 2  # half a count, so that no profile is zero
        # no more native than ambient counts, even if one count was missed by chance
        hardly = soup >= np.maximum(observed + 1 - soup, 0)
        self.native = Constant(jnp.asarray(native / native.sum(axis=1, keepdims=True), jnp.float32))
        self.hardly = Constant(jnp.asarray(hardly))
        self.mean_rate = Constant(jnp.asarray(rate, jnp.float32))
        self.lift = Constant(jnp.asarray(1.0, jnp.float32))

    def _labelled(self, x: RowBlocks, codes: np.ndarray | None):
        """Blocks of counts with the cluster of each row."""
        for start, stop, part in x.parts():
            yield part, self._labels(part, None if codes is None else codes[start:stop])

    def _labels(self, x, codes):
        """The cluster of each row, or the likeliest one if it has none."""
        rate = self.mean_rate[...]
        mixed: Array = jnp.log((1 - rate) * self.native[...] + rate * self.profile[...] + TINY)
        if not isinstance(x, jnp.ndarray):
            x, mixed, codes = floating(x), np.asarray(mixed), None if codes is None else np.asarray(codes)
        likeliest = (x @ mixed.T).argmax(axis=1)
        if codes is None:
            return likeliest
        return (jnp if isinstance(x, jnp.ndarray) else np).where(codes < 0, likeliest, codes)

    def _contamination(self, x, labels):
        """The fraction of each row's counts that is ambient, an array of shape (n_rows,)."""
        rate, (found, expected, start) = self.mean_rate[...], self._evidence(x, labels)
        scale: Array = (self.concentration + 1) / (1 - rate)
        shape: Array = rate * scale
        lift: Array = self.lift[...]
        if isinstance(start, np.ndarray):
            shape, scale, lift = map(np.asarray, (shape, scale, lift))
        return contamination(
            lambda rho: ((lift * found(rho) + shape) / (expected + scale)).clip(0, MAX_CONTAMINATION), start
        )

    def _evidence(self, x, labels):
        """Evidence for the contamination of a row, from the genes that its cluster hardly expresses.

        The ambient counts of these genes, as a function of the row's contamination; their expected number if all counts
        of the row were ambient; and the mean contamination.
        """
        rate, profile, hardly, native = (v[...] for v in (self.mean_rate, self.profile, self.hardly, self.native))
        expected = hardly @ profile
        if sparse.issparse(x):
            return _sparse_evidence(x, labels, *map(np.asarray, (rate, profile, hardly, native, expected)))
        x = floating(jnp.asarray(x))
        count, native = x * hardly[labels], native[labels]

        def found(rho):
            return (count * (1 - native_share(rho[:, None], native, profile))).sum(axis=1)

        return found, row_sums(x) * expected[labels], jnp.full(len(x), rate, x.dtype)

    def _liquid(self, x, labels) -> np.ndarray:
        """Of each cluster: ambient counts, and those of the informative genes, expected at the mean rate and found.

        An array of shape (3, n_clusters).
        """
        found, expected, start = self._evidence(x, labels)
        counts = self._contamination(x, labels) * row_sums(x)
        per_row = np.stack([np.asarray(v, np.float64) for v in (counts, start * expected, found(start))])
        return group_totals(per_row.T, labels, len(self.native[...])).T


def _sparse_evidence(x, labels, rate, profile, hardly, native, expected):
    """The evidence for the rows of a sparse matrix, from the counts that are stored."""
    row = np.repeat(np.arange(x.shape[0]), np.diff(x.indptr))
    kept = np.flatnonzero(hardly[labels[row], x.indices])
    count, row, gene = floating(x.data)[kept], row[kept], x.indices[kept]
    native, ambient = native[labels[row], gene], profile[gene]

    def found(rho):
        liquid = count * (1 - native_share(rho[row], native, ambient))
        return np.bincount(row, liquid, minlength=len(rho)).astype(rho.dtype)

    return found, row_sums(x) * expected[labels], np.full(x.shape[0], rate, np.float32)


def _some(total: np.ndarray) -> np.ndarray:
    if total.sum() == 0:
        msg = "All counts are zero."
        raise ValueError(msg)
    return total


def _totals(labelled, shape: tuple[int, int]) -> np.ndarray:
    """Sums over the groups of labelled blocks, an array of ``shape``, (n_groups, n_genes)."""
    totals = np.zeros(shape)
    for part, labels in labelled:
        totals += group_totals(part, labels, len(totals))
    return totals


def _slices(n_rows: int):
    return [slice(start, start + CSR_ROWS) for start in range(0, n_rows, CSR_ROWS)]


def _rows_of(cluster: Codes | None, rows: slice) -> Codes | None:
    return None if cluster is None else Codes(cluster.codes[rows], cluster.levels)
