"""Counts, abundances and lengths of genes from those of their transcripts."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import like
from dbx.ops.checks import check_known
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Array

MODES = (None, "scaled_tpm", "length_scaled_tpm")


def by_gene(x: np.ndarray, genes: np.ndarray) -> np.ndarray:
    """Sums over the transcripts of each gene, the last axis of the array."""
    members = sparse.csr_matrix((np.ones(len(genes)), (genes, np.arange(len(genes)))))
    return (members @ x.reshape(-1, len(genes)).T).T.reshape(*x.shape[:-1], members.shape[0])


class SummarizeToGene(Operator):
    """Sums over the transcripts of each gene, and their mean effective length weighted by abundance.

    ``genes`` has the number of the gene of each transcript. A gene without abundance in a sample gets the geometric
    mean of its lengths in other samples, or the mean of its transcripts' effective lengths. Counts from abundances are
    those of ``tpm``, or of ``tpm`` times the mean length of the gene over the fitted samples, scaled to the sample's
    number of fragments (Soneson et al., F1000Research, 2015). The reference implementation is tximport.

    New cells: sums over the same transcripts, with the reference's lengths of genes.
    """

    name = "summarize_to_gene"
    inputs: ClassVar = {"counts": Input(), "tpm": Input(), "lengths": Input()}
    outputs: ClassVar = {
        "gene_counts": Output(dtype="float64"),
        "gene_tpm": Output(dtype="float64"),
        "gene_lengths": Output(dtype="float64"),
    }
    rowwise = True
    host = True
    precision = "float64"
    unlisted = frozenset({"genes"})

    def __init__(self, *, genes: tuple[int, ...], counts_from_abundance: str | None = None):
        check_known(counts_from_abundance, MODES, "counts_from_abundance")
        self.genes, self.counts_from_abundance = genes, counts_from_abundance

    def fit(
        self, *, counts: RowBlocks, tpm: RowBlocks, lengths: RowBlocks, seed: int = 0, progress: Progress = silent
    ) -> None:
        """Lengths of the genes over the fitted samples."""
        of_transcripts = lengths.dense().astype(np.float64)
        found, known = self._lengths(tpm.dense().astype(np.float64), of_transcripts, 1.0)
        number = known.sum(axis=0)
        logs = np.where(known, np.log(found), 0).sum(axis=0) / np.maximum(number, 1)
        plain = self._by_gene(of_transcripts.mean(axis=0)[None])[0] / np.bincount(self.genes)
        self.usual = Constant(np.where(number > 0, np.exp(logs), plain))
        self.mean_length = Constant(np.where(known, found, self.usual[...]).mean(axis=0))

    def _by_gene(self, x: Array) -> Array:
        """Sums over the transcripts of each gene of an array of shape (n_samples, n_transcripts)."""
        if isinstance(x, np.ndarray):
            return by_gene(x, np.asarray(self.genes))
        return jax.ops.segment_sum(x.T, jnp.asarray(self.genes), max(self.genes) + 1).T

    def _lengths(self, tpm: Array, lengths: Array, usual: Array | float):
        """Lengths of genes, and where there is abundance to weigh by."""
        library = np if isinstance(tpm, np.ndarray) else jnp
        total = self._by_gene(tpm)
        known = total > 0
        return library.where(known, self._by_gene(tpm * lengths) / library.where(known, total, 1), usual), known

    def __call__(self, counts: Array, tpm: Array, lengths: Array) -> dict[str, Any]:
        """Counts, transcripts per million and lengths of genes, arrays of shape (n_samples, n_genes)."""
        found, _ = self._lengths(tpm, lengths, like(self.usual[...], tpm))
        of_genes, abundance = self._by_gene(counts), self._by_gene(tpm)
        summed = of_genes
        if self.counts_from_abundance is not None:
            scaled = self.counts_from_abundance == "length_scaled_tpm"
            new = abundance * like(self.mean_length[...], tpm) if scaled else abundance
            total = new.sum(axis=1, keepdims=True)
            library = np if isinstance(tpm, np.ndarray) else jnp
            new_total = library.where(total > 0, total, 1)
            summed = new * (of_genes.sum(axis=1, keepdims=True) / new_total)
        return {"gene_counts": summed, "gene_tpm": abundance, "gene_lengths": found}
