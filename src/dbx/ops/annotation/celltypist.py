"""Cell types by logistic regression on labelled cells, and a vote among neighbours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.annotation.labels import conclusion, known_labels, sample_labelled
from dbx.ops.annotation.multinomial import fit_multinomial, standardise
from dbx.ops.annotation.profile_scores import Profiles
from dbx.ops.annotation.thinning import thinned
from dbx.ops.apply import apply
from dbx.ops.arrays import as_float
from dbx.ops.checks import check_share
from dbx.ops.graph.vote import neighbours_vote
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Reference, silent
from dbx.ops.values import Codes, Graph

TARGET = 1e4
SCREENING = 20
"""Iterations of the regression on all genes, which is only used to rank them."""


class CellTypist(Operator):
    """Multinomial logistic regression on log1p of counts per 10,000, then a vote of neighbours or within clusters.

    It is trained on labelled cells and on thinned copies of them, so that its probabilities hold at lower depth. Genes
    with the largest coefficients for each label are kept and the regression is fitted again on them. Besides
    genes, its features are for each label how well all counts agree with the profile of that label, divided by the
    square root of the total.

    ``probabilities`` are those of the regression. The label is that with the largest mean of probability and fraction
    of the vote, which for new cells is among neighbouring fitted cells, or those of the same cluster.

    New cells: ``method='celltypist'``: the coefficients; neighbouring fitted cells, or those of its cluster, vote.
    """

    name = "celltypist"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",)),
        "labels": Input(kind="codes", missing=True, unseen="missing", of_fitted_cells=True),
        "graph": Input(kind="graph", optional=True),
        "clusters": Input(kind="codes", unseen="missing", missing=True, optional=True),
    }
    outputs: ClassVar = {"labels": Output(dtype="category"), "confidence": Output(), "probabilities": Output()}
    result = "labels"
    rowwise = True

    def __init__(
        self,
        *,
        unlabeled: str | float | bool | None = "Unknown",
        vote: Literal["neighbors", "clusters"] | None = None,
        top_genes: int = 300,
        C: float = 1.0,
        n_copies: int = 4,
        max_cells_per_label: int = 1000,
        max_iter: int = 200,
        min_confidence: float = 0.5,
        classes: tuple[str, ...] = (),
    ):
        check_share(min_confidence, "min_confidence")
        if top_genes < 1 or max_iter < 1 or max_cells_per_label < 1 or n_copies < 0 or not C > 0:
            msg = (
                "top_genes, max_iter and max_cells_per_label must be at least 1, n_copies at least 0 and C above 0; "
                f"got {top_genes}, {max_iter}, {max_cells_per_label}, {n_copies} and {C}."
            )
            raise ValueError(msg)
        self.unlabeled, self.vote, self.classes = unlabeled, vote, classes
        self.top_genes, self.C, self.n_copies = top_genes, C, n_copies
        self.max_cells_per_label, self.max_iter, self.min_confidence = max_cells_per_label, max_iter, min_confidence

    @property
    def references(self) -> Mapping[str, str]:
        """Fitted cells are only needed for votes of neighbours."""
        return {"fitted": "probabilities"} if self.vote == "neighbors" else {}

    def fit(
        self,
        *,
        x: RowBlocks,
        labels: Codes,
        graph: sparse.csr_matrix | None = None,
        clusters: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Fit the regression, then compute the votes of the fitted cells."""
        codes, self.classes = known_labels(labels, self.unlabeled)
        self._regress(x, codes, np.random.default_rng(seed), progress)
        if self.vote is None:
            return
        own = np.asarray(apply(_Regression(self), {"x": x}, x.n_rows)["probabilities"])  # lazy with dask
        if self.vote == "neighbors":
            self.fitted = Reference(own)
        else:
            assert clusters is not None  # an input wherever they vote
            shares = np.zeros((clusters.n_levels, len(self.classes)))
            member = np.asarray(clusters.codes) >= 0
            np.add.at(shares, (np.asarray(clusters.codes)[member], own.argmax(axis=1)[member]), 1)
            self.shares = Constant(as_float(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1)))

    def _regress(self, x: RowBlocks, codes: np.ndarray, rng: np.random.Generator, progress: Progress) -> None:
        profiles = Profiles(x, codes, len(self.classes))
        chosen = sample_labelled(codes, self.max_cells_per_label, rng)
        whole, truth = sparse.csr_matrix(x.rows(chosen), dtype=np.float32), codes[chosen]
        copies = [whole, *(thinned(whole, rng) for _ in range(self.n_copies))]
        scores = np.concatenate([_per_root(profiles.scores(c, whole, truth), _sizes(c)) for c in copies])
        spread = max(float(scores.std()), 1e-6)
        z, truth = sparse.vstack([_log_cp10k(c) for c in copies], format="csr"), np.tile(truth, len(copies))
        # a cell and its copies have the weight of one, so that the penalty is scikit-learn's at this C
        weights, penalty = np.full(len(truth), 1 / len(truth)), 1 / (self.C * len(chosen))
        genes = np.arange(x.n_columns)
        if self.top_genes * len(self.classes) < x.n_columns:
            features, standards = standardise(z)
            centre = standards.mean / standards.sd
            kernel, _ = fit_multinomial(features, truth, weights, penalty, offset=centre, max_iter=SCREENING)
            genes = np.unique(np.argsort(-np.abs(kernel), axis=0, kind="stable")[: self.top_genes])
            progress(1, 2, f"{len(genes)} genes")
        features, standards = standardise(z[:, genes])
        # scores represent all genes, and are penalised as if divided among them
        weight = np.sqrt(len(genes)) / spread
        features = sparse.hstack([features, sparse.csr_matrix(scores * weight)], format="csr")
        offset = np.concatenate([standards.mean / standards.sd, np.zeros(len(self.classes))])
        kernel, bias = fit_multinomial(features, truth, weights, penalty, offset=offset, max_iter=self.max_iter)
        progress(2, 2, "regression")
        self.genes, self.highest = Constant(jnp.asarray(genes, jnp.int32)), Constant(as_float(standards.highest))
        self.mean, self.profiles = Constant(as_float(standards.mean)), Constant(as_float(profiles.log_ratios))
        self.kernel = nnx.Param(as_float(kernel[: len(genes)] / standards.sd[:, None]))
        self.score_kernel = nnx.Param(as_float(kernel[len(genes) :] * weight))
        self.bias = nnx.Param(as_float(bias))

    def probabilities_of(self, x):
        """Probabilities of the regression, array of shape (n_cells, n_classes)."""
        size = x.sum(axis=1, keepdims=True)
        size = jnp.where(size > 0, size, 1)
        z = jnp.log1p(x[:, self.genes[...]] * (TARGET / size))
        z = jnp.minimum(z, self.highest[...]) - self.mean[...]
        scores = _per_root(x @ self.profiles[...], size)
        return jax.nn.softmax(z @ self.kernel[...] + scores @ self.score_kernel[...] + self.bias[...])

    def __call__(self, x, labels=None, graph: Graph | None = None, clusters: Codes | None = None) -> dict[str, Any]:
        """Labels of all cells; existing labels are not used."""
        del labels
        own = self.probabilities_of(x)
        shares = own
        if self.vote is not None:
            votes = self._votes(graph, clusters, own.dtype)
            shares = jnp.where(votes.any(axis=1, keepdims=True), (own + votes) / 2, own)
        return {**conclusion(shares, self.classes, self.min_confidence), "probabilities": own}

    def _votes(self, graph: Graph | None, clusters: Codes | None, dtype):
        """Fraction of each label in the votes, zero without votes."""
        if self.vote == "neighbors":
            assert graph is not None  # an input wherever neighbours vote
            best = jnp.asarray(self.fitted.get_value()).argmax(axis=1).astype(jnp.int32)
            return neighbours_vote(graph, Codes(best, self.classes)).astype(dtype)
        assert clusters is not None
        known = clusters.codes >= 0
        return jnp.where(known[:, None], self.shares[...][jnp.maximum(clusters.codes, 0)], 0).astype(dtype)


class _Regression(Operator):
    """The probabilities only, for the votes of clusters."""

    name = "celltypist_regression"
    inputs: ClassVar = {"x": CellTypist.inputs["x"]}
    outputs: ClassVar = {"probabilities": Output()}
    rowwise = True

    def __init__(self, of: CellTypist):
        self.of = of

    def __call__(self, x):
        return {"probabilities": self.of.probabilities_of(x)}


def _sizes(x: sparse.csr_matrix) -> np.ndarray:
    return np.maximum(np.asarray(x.sum(axis=1)), 1)


def _log_cp10k(x: sparse.csr_matrix) -> sparse.csr_matrix:
    values = np.log1p(x.data * np.repeat(TARGET / _sizes(x).ravel(), np.diff(x.indptr)))
    return sparse.csr_matrix((values.astype(np.float64), x.indices, x.indptr), x.shape)


def _per_root(scores, size):
    """Scores minus their mean over labels, divided by the root of the total: similar noise at any depth."""
    return (scores - scores.mean(axis=1, keepdims=True)) / size**0.5
