"""All genes fitted and tested, block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from scipy.special import expit, gammaln

from dbx.data.threads import map_in_threads, one_blas_thread
from dbx.ops.operator import Progress
from dbx.ops.switches.calibration import chosen_genes, gamma_of, of_like_mean, tail
from dbx.ops.switches.curves import spline_basis
from dbx.ops.switches.fits import SPLINE_DF, Model
from dbx.ops.switches.loading import Loader
from dbx.ops.switches.newton import Maximum
from dbx.ops.switches.noise import Values
from dbx.ops.switches.shapes import classify, turns

BLOCK_VALUES = 1 << 16
"""Values of a block, whose intermediate results stay in the processor's cache."""
DRAWN_TOGETHER = 512
"""Most genes whose permutations come from one random generator, whatever the size of blocks."""


class Fitted(NamedTuple):
    """Every gene's switch, arrays of shape (n_genes,) unless said otherwise; pseudotime is from 0 to 1."""

    ratio: np.ndarray
    """Likelihood ratio against a constant."""
    floor: np.ndarray
    plateau: np.ndarray
    """Above the floor."""
    strength: np.ndarray
    """Positive for a gene that switches on."""
    time: np.ndarray
    strength_error: np.ndarray
    time_error: np.ndarray
    change: np.ndarray
    """log2 of the last over the first value of the curve; without counts the difference of logarithms, in log2."""
    log_theta: np.ndarray
    """Log of theta, or the variance without counts."""
    inflation: np.ndarray
    log_likelihood: np.ndarray
    shape: np.ndarray
    converged: np.ndarray


def gene_blocks(n_genes: int, n_cells: int, block_genes: int) -> Iterator[np.ndarray]:
    """Numbers of genes in blocks that are small enough for the cache, if possible."""
    size = int(np.clip(BLOCK_VALUES // n_cells, 8, block_genes))
    return (np.arange(start, min(start + size, n_genes)) for start in range(0, n_genes, size))


def fit_all(model: Model, load: Loader, n_genes: int, *, spline: bool, block_genes: int, progress: Progress) -> Fitted:
    """Fit every gene."""

    def work(genes: np.ndarray) -> Fitted:
        return _fit(model, load(genes), spline=spline)

    parts = []
    with one_blas_thread():
        for part in map_in_threads(work, gene_blocks(n_genes, len(model.t), block_genes)):
            parts.append(part)
            progress(sum(len(each.ratio) for each in parts), n_genes, "genes")
    return Fitted(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _fit(model: Model, values: Values, *, spline: bool) -> Fitted:
    constant = model.constant(values)
    switch = model.switch(values, constant)
    trend = model.trend(values)
    n, n_cells = model.design.shape[1] + len(model.noise.bounds), len(model.t)
    n_switch = 4 if model.of_counts else 3

    def criterion(found: Maximum, n_parameters: int) -> np.ndarray:
        return (n_parameters + n) * np.log(n_cells) - 2 * found.value

    criteria = {
        "none": criterion(constant, 1),
        "gradual": criterion(trend, 2),
        "switch": criterion(switch, n_switch),
    }
    turning = None
    if spline:
        smooth, basis = model.spline(values), spline_basis(model.t, SPLINE_DF)
        criteria["spline"] = criterion(smooth, basis.shape[1])
        turning = turns(smooth.x[:, : basis.shape[1]] @ basis.T)
    return _described(model, values, constant, switch, classify(criteria, turning))


def _described(model: Model, values: Values, constant: Maximum, switch: Maximum, shape: np.ndarray) -> Fitted:
    first, second, log_k, t0 = switch.x[:, :4].T
    on = second >= first
    k, sign = np.exp(log_k), np.where(on, 1.0, -1.0)
    errors = _errors(switch)
    ends = [first + (second - first) * expit(k * (t - t0)) for t in (0.0, 1.0)]
    own = switch.x[:, 4 + model.design.shape[1] :]
    if model.of_counts:
        change = np.log2(ends[1]) - np.log2(ends[0])
        of_counts = (values.times * gammaln(values.different + 1)).sum(axis=1)
        penalty = 0.0
        if values.prior is not None:
            penalty = values.prior[:, 1] * (own[:, 0] - values.prior[:, 0]) ** 2 / 2
        theta, likelihood = own[:, 0], switch.value - of_counts + penalty
    else:
        change, likelihood = (ends[1] - ends[0]) / np.log(2), switch.value
        theta = np.exp(own[:, 0] if own.size else -2 * switch.value / len(model.t) - 1 - np.log(2 * np.pi))
    return Fitted(
        ratio=np.maximum(2 * (switch.value - constant.value), 0),
        floor=np.minimum(first, second),
        plateau=np.maximum(first, second),
        strength=sign * k,
        time=t0,
        strength_error=k * errors[:, 2],
        time_error=errors[:, 3],
        change=change,
        log_theta=theta,
        inflation=(expit if model.of_counts else np.exp)(own[:, 1]) if own.shape[1] > 1 else np.zeros(len(k)),
        log_likelihood=likelihood,
        shape=shape,
        converged=switch.converged,
    )


def _errors(switch: Maximum) -> np.ndarray:
    """Standard errors of the parameters, NaN for those at a bound; an array of shape (n_genes, n_parameters)."""
    held = switch.held
    matrix = np.where(held[:, :, None] | held[:, None, :], 0, switch.information)
    diagonal = np.einsum("gpp->gp", matrix)
    diagonal[held] = 1
    scale = np.sqrt(np.maximum(diagonal, 1e-300))
    matrix = matrix / scale[:, :, None] / scale[:, None, :] + 1e-12 * np.eye(held.shape[1])
    variance = np.einsum("gpp->gp", np.linalg.inv(matrix)) / scale**2
    with np.errstate(invalid="ignore"):
        return np.where(held | (variance <= 0), np.nan, np.sqrt(variance))


def permuted_ratios(
    model: Model, load: Loader, genes: np.ndarray, *, seed: list[int], block_genes: int, progress: Progress
) -> np.ndarray:
    """Likelihood ratios of genes whose cells have the pseudotime of others, each gene's in another order."""
    n_cells = len(model.t)

    def blocks() -> Iterator[tuple[int, np.ndarray]]:
        for drawn in gene_blocks(len(genes), n_cells, DRAWN_TOGETHER):
            for block in gene_blocks(len(drawn), n_cells, block_genes):
                yield int(drawn[0]), drawn[block]

    def work(block: tuple[int, np.ndarray]) -> np.ndarray:
        first, at = block
        values = load(genes[at])
        here, values = _permuted(model, values, np.random.default_rng([*seed, first]), int(at[0]) - first)
        constant = here.constant(values)
        return np.maximum(2 * (here.switch(values, constant).value - constant.value), 0)

    parts = []
    with one_blas_thread():
        for part in map_in_threads(work, blocks()):
            parts.append(part)
            progress(sum(map(len, parts)), len(genes), "permuted genes")
    return np.concatenate(parts)


def _permuted(model: Model, values: Values, rng: np.random.Generator, skipped: int) -> tuple[Model, Values]:
    """The same values at other times: each gene's in its own order, all in one where there are covariates.

    ``skipped`` genes before these have orders from the same generator.
    """
    if model.design.shape[1]:
        order = rng.permutation(values.y.shape[1])
        moved = values._replace(y=values.y[:, order], size=values.size[:, order])
        return model._replace(design=model.design[order]), moved
    rng.random((skipped, values.y.shape[1]))  # what the genes before take
    orders = np.argsort(rng.random(values.y.shape), axis=1)
    size = np.broadcast_to(values.size, values.y.shape)
    y, size = (np.take_along_axis(part, orders, axis=1) for part in (values.y, size))
    return model, values._replace(y=y, size=size)


def calibrated(
    ratio: np.ndarray, mean: np.ndarray, calibrate: str, permuted: Callable[[np.ndarray, int], np.ndarray], n_perms: int
) -> np.ndarray:
    """P-values from ratios of permuted genes: of like mean (``"f"``) or of the gene itself (``"permutation"``)."""
    if calibrate == "permutation":
        null = np.array([permuted(np.arange(len(ratio)), i) for i in range(n_perms)])
        return tail(ratio, *gamma_of(null.mean(axis=0), null.var(axis=0, ddof=1)))
    genes, n_times = chosen_genes(mean)
    null = np.concatenate([permuted(genes, i) for i in range(n_times)])
    return tail(ratio, *of_like_mean(null, np.tile(np.log(mean[genes]), n_times), np.log(mean)))
