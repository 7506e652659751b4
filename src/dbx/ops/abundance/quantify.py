"""Abundances of transcripts from counts of equivalence classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import sparse

from dbx._warnings import warn
from dbx.data.blocks import RowBlocks
from dbx.ops.abundance import differentiable
from dbx.ops.abundance.classes import EquivalenceClasses, classes_of, numbers
from dbx.ops.abundance.estimates import Settings, log_likelihood, per_million
from dbx.ops.abundance.resampling import repeated
from dbx.ops.abundance.variance import relative_variance
from dbx.ops.arrays import like
from dbx.ops.callbacks import on_host
from dbx.ops.checks import check_above_zero, check_at_least, check_known, check_whole
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Array

AT_ONCE = 1 << 23
"""Counts of classes that are in memory densely."""
FIELDS = ("method", "vb_prior", "max_iter", "tol", "acceleration", "temperature")


class Quantify(Operator):
    """Expected number of fragments of each transcript, by maximum likelihood or variational Bayes.

    A fragment of class c comes from transcript t with probability ``share[t] * w[c, t]``, where w is 1 over the
    effective length of t or the given weight. ``classes`` has the numbers of the transcripts of each class, joined by
    commas, the classes joined by semicolons, and ``weights`` their weights in the same form. Parts of up to 64
    transcripts that share no class with others are solved by an interior-point method, the others by passes of
    expectation maximisation, accelerated by SQUAREM. The derivative is the implicit one at the fixed point, or with
    ``unroll`` that through so many passes.

    New cells: other samples, from their counts of the same classes, found by name, and their effective lengths, or else
    the reference's mean ones.
    """

    name = "quantify"
    inputs: ClassVar = {"x": Input(counted=True), "lengths": Input(stored=True)}
    outputs: ClassVar = {
        "counts": Output(dtype="float64"),
        "tpm": Output(dtype="float64"),
        "log_likelihood": Output(dtype="float64"),
        "iterations": Output(dtype="int32"),
        "variance": Output(dtype="float64"),
        "relative_variance": Output(dtype="float64"),
        "bootstrap": Output(),
    }
    rowwise = True
    precision = "float64"
    unlisted = frozenset({"classes", "weights"})

    def __init__(
        self,
        *,
        classes: str,
        weights: str = "",
        method: str = "em",
        vb_prior: float = 1e-2,
        max_iter: int = 10_000,
        tol: float = 1e-10,
        acceleration: bool = True,
        n_bootstrap: int = 0,
        min_alpha: float = 1e-8,
        temperature: float = 1.0,
        unroll: int | None = None,
    ):
        check_known(method, ("em", "vb"), "method")
        check_above_zero(vb_prior, "vb_prior")
        check_whole(max_iter, 1, "max_iter")
        check_above_zero(tol, "tol")
        check_whole(n_bootstrap, 0, "n_bootstrap")
        if n_bootstrap == 1:
            msg = "n_bootstrap must be 0 or at least 2: a single repeat has no variance."
            raise ValueError(msg)
        check_at_least(min_alpha, 0, "min_alpha")
        check_above_zero(temperature, "temperature")
        if unroll is not None:
            check_whole(unroll, 1, "unroll")
        self.classes, self.weights = classes, weights
        self.method, self.vb_prior = method, vb_prior
        self.max_iter, self.tol, self.acceleration = max_iter, tol, acceleration
        self.n_bootstrap, self.min_alpha = n_bootstrap, min_alpha
        self.temperature, self.unroll = temperature, unroll

    def fit(self, *, x: RowBlocks, lengths: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Check the counts of classes and the effective lengths; the weights of members are parameters."""
        classes = classes_of(self.classes, lengths.n_columns)
        if classes.n_classes != x.n_columns or classes.indices.max() >= lengths.n_columns:
            msg = (
                f"There are {classes.n_classes} classes of {classes.indices.max() + 1} transcripts, but counts of "
                f"{x.n_columns} classes and effective lengths of {lengths.n_columns} transcripts."
            )
            raise ValueError(msg)
        self.mean_lengths = Constant(lengths.dense().astype(np.float64).mean(axis=0))
        if self.weights:
            self.member_weights = nnx.Param(numbers(self.weights, np.float64))
        if self.n_bootstrap:
            self.seed = Constant(np.asarray(seed, np.uint32))

    @property
    def settings(self) -> Settings:
        """How counts are estimated."""
        return Settings(**{name: getattr(self, name) for name in FIELDS})

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """The estimates by NumPy, some samples at a time; None for unrolled passes."""
        if self.unroll is not None:
            return None
        x, lengths = inputs["x"], self._lengths(inputs)
        weights = np.asarray(self.member_weights[...], np.float64) if self.weights else None
        classes = classes_of(self.classes, lengths.shape[1]).with_weights(weights)
        found = []
        for start, stop in _slices(x):
            rows = x.rows(slice(start, stop))
            used = np.unique(rows.indices) if sparse.issparse(rows) else np.flatnonzero((rows != 0).any(axis=0))
            counts = rows[:, used]
            counts = np.asarray(counts.toarray() if sparse.issparse(counts) else counts, np.float64)
            if not (counts >= 0).all():
                msg = f"Counts of classes must be at least 0; got {counts.min():g}."
                raise ValueError(msg)
            found.append(self._estimated(classes.some(used), counts, lengths[start:stop]))
        outputs = {name: np.concatenate([part[name] for part in found]) for name in found[0]}
        self._warn_unsettled(outputs["iterations"])
        return outputs

    def _lengths(self, inputs: Mapping[str, Any]) -> np.ndarray:
        """Effective lengths of the samples, where they lack them the mean ones of the fitted samples."""
        stored = np.asarray(self.mean_lengths[...], np.float64)
        if "lengths" not in inputs:
            return np.tile(stored, (inputs["x"].n_rows, 1))
        lengths = np.asarray(inputs["lengths"].dense(), np.float64)
        if not (np.isfinite(lengths) & (lengths >= 0)).all():
            msg = "Effective lengths must be above 0; some of the samples' are not."
            raise ValueError(msg)
        return np.where(lengths > 0, lengths, stored)  # zero of transcripts that new samples lack

    def _estimated(self, classes: EquivalenceClasses, counts, lengths) -> dict[str, np.ndarray]:
        a, iterations = differentiable.estimated_in_use(classes, counts, lengths, self.settings)
        a = np.where(a < self.min_alpha, 0, a)
        outputs = {
            "counts": a,
            "tpm": per_million(a, lengths),
            "log_likelihood": log_likelihood(classes, counts, lengths, a),
            "iterations": iterations.astype(np.int32),
        }
        if self.n_bootstrap:
            outputs |= self._repeated(classes, counts, lengths, self.seed[...])
        return outputs

    def _repeated(self, classes: EquivalenceClasses, counts, lengths, seed) -> dict[str, np.ndarray]:
        draws = repeated(classes, counts, lengths, self.settings, self.n_bootstrap, int(seed))
        draws = np.where(draws < self.min_alpha, 0, draws)
        return {
            "variance": draws.var(axis=1, ddof=1),
            "relative_variance": relative_variance(draws),
            "bootstrap": draws.astype(np.float32),
        }

    def _warn_unsettled(self, iterations: np.ndarray) -> None:
        unsettled = int((iterations == 0).sum())
        if unsettled:
            msg = (
                f"The estimates of {unsettled} of {len(iterations)} samples did not converge in {self.max_iter} "
                "iterations: raise max_iter, or tol."
            )
            warn(msg)

    def __call__(self, x: Array, lengths: Array | None = None) -> dict[str, Any]:
        """Counts, transcripts per million and log-likelihood of samples."""
        x = jnp.asarray(x)
        if lengths is None:
            lengths = jnp.broadcast_to(like(self.mean_lengths[...], x), (len(x), self.mean_lengths[...].shape[0]))
        lengths = jnp.asarray(lengths)
        lengths = jnp.where(lengths > 0, lengths, 1)  # rows of zeros pad a block of samples
        weights = jnp.asarray(self.member_weights[...], x.dtype) if self.weights else jnp.zeros(0, x.dtype)
        classes = classes_of(self.classes, lengths.shape[1])
        if self.unroll is None:
            a, iterations = differentiable.at_fixed_point(classes, self.settings)(x, lengths, weights)
        else:
            a = differentiable.unrolled(classes, self.settings, self.unroll, x, lengths, weights)
            iterations = jnp.full(len(x), self.unroll, jnp.int32)
        a = jnp.where(a < self.min_alpha, 0, a)
        rate = a / lengths
        total = rate.sum(axis=1, keepdims=True)
        outputs = {
            "counts": a,
            "tpm": rate / jnp.where(total > 0, total, 1) * 1e6,
            "log_likelihood": differentiable.log_likelihood(classes, x, lengths, weights, a),
            "iterations": iterations,
        }
        if self.n_bootstrap:
            outputs |= self._repeated_by_callback(classes, x, lengths, weights)
        return outputs

    def _repeated_by_callback(self, classes: EquivalenceClasses, x, lengths, weights) -> dict[str, Any]:
        shape, dtype, n = lengths.shape, lengths.dtype, self.n_bootstrap
        shapes = {"variance": shape, "relative_variance": shape, "bootstrap": (shape[0], n, shape[1])}

        def function(counts, lengths, weights, seed):
            weighted = classes.with_weights(np.asarray(weights, np.float64) if weights.size else None)
            used = np.flatnonzero((counts > 0).any(axis=0))
            found = self._repeated(weighted.some(used), np.asarray(counts, np.float64)[:, used], lengths, seed)
            return tuple(np.asarray(found[name], dtype) for name in shapes)

        wanted = [jax.ShapeDtypeStruct(size, dtype) for size in shapes.values()]
        found = on_host(function, wanted, x, lengths, weights, jnp.asarray(self.seed[...]))
        return dict(zip(shapes, found, strict=True))

    def loss(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> Array:
        """Negative log-likelihood of each sample per fragment."""
        total = inputs["x"].sum(axis=1)
        return -outputs["log_likelihood"] / jnp.where(total > 0, total, 1)

    def check_differentiable(self) -> None:
        """Resamples have no gradient."""
        if self.n_bootstrap:
            msg = "Resampled fragments have no gradient: quantify with n_bootstrap=0."
            raise ValueError(msg)


def _slices(x: RowBlocks):
    """Samples whose counts of classes are in memory densely at the same time."""
    size = max(AT_ONCE // max(x.n_columns, 1), 1)
    return [(start, min(start + size, x.n_rows)) for start in range(0, x.n_rows, size)]
