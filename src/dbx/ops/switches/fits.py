"""Constant genes, switches and splines fitted to the values of some genes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from dbx.ops.switches.curves import Smooth, Switch, spline_basis
from dbx.ops.switches.lost_zeros import ZeroInflatedNormal
from dbx.ops.switches.newton import GAIN, Maximum, maximise
from dbx.ops.switches.noise import NegativeBinomial, Noise, Normal, Values, ZeroInflated
from dbx.ops.switches.starts import (
    best_starts,
    bins,
    count_profile,
    in_bins,
    means_in_bins,
    normal_profile,
)

ROUGH = 8
"""Iterations that tell which start is the best."""
SPLINE_DF = 5
GAIN_OF_LOGS = 1e-9
Bounds = tuple[np.ndarray, np.ndarray]
"""Lowest and highest parameters, arrays of shape (n_genes, n_parameters)."""
NOISES: dict[str, Noise] = {
    "nb": NegativeBinomial(),
    "zinb": ZeroInflated(),
    "gaussian": Normal(),
    "zero_inflated_gaussian": ZeroInflatedNormal(),
}


class Model(NamedTuple):
    """What is fitted to every gene; the cells are in the order of pseudotime."""

    likelihood: str
    t: np.ndarray
    """From 0 to 1, an array of shape (n_cells,)."""
    design: np.ndarray
    """Covariates, an array of shape (n_cells, n_covariates), centred."""
    strengths: tuple[float, float]
    n_starts: int

    @property
    def noise(self) -> Noise:
        """The likelihood."""
        return NOISES[self.likelihood]

    @property
    def of_counts(self) -> bool:
        """Whether the means are products with size factors."""
        return self.likelihood in ("nb", "zinb")

    @property
    def gain(self) -> float:
        """Nats that a step must promise: least squares take few steps more to all digits."""
        return GAIN if self.of_counts else GAIN_OF_LOGS

    def smooth(self, values: Values, basis: np.ndarray) -> Maximum:
        """A constant, a trend or a spline in the columns of ``basis``, the first of which is constant."""
        curve = Smooth(np.column_stack([basis, self.design]), self.of_counts)
        mean = values.mean
        x = np.zeros((len(mean), curve.basis.shape[1]))
        x[:, 0] = (np.log(mean) if self.of_counts else mean) / basis[0, 0]
        bounds = _with_own(curve.bounds(len(mean)), self.noise)
        starts = [np.column_stack([x, own]) for own in self.noise.start(values)]
        return highest(partial(self.noise, curve), values, starts, bounds, self.gain)

    def constant(self, values: Values) -> Maximum:
        """Without pseudotime."""
        return self.smooth(values, np.ones((len(self.t), 1)))

    def trend(self, values: Values) -> Maximum:
        """Log-linear in pseudotime; linear without counts."""
        return self.smooth(values, np.column_stack([np.ones_like(self.t), self.t - self.t.mean()]))

    def spline(self, values: Values) -> Maximum:
        """A natural cubic spline."""
        return self.smooth(values, spline_basis(self.t, SPLINE_DF))

    def switch(self, values: Values, constant: Maximum) -> Maximum:
        """A switch, from the best of several starts."""
        curve = Switch(self.t, self.design, self.strengths, self.of_counts)
        roughly = self._rough_counts if self.of_counts else self._rough_normal
        x, bounds = roughly(values, curve)
        height, n_covariates = partial(self.noise, curve), self.design.shape[1]
        starts = [np.column_stack([x, constant.x[:, 1 + n_covariates :]])]
        if len(self.noise.bounds) > 1:  # its means are those of the cells without extra zeros
            starts.append(np.column_stack([x, self.noise.start(values)[0]]))
            mean = np.exp(constant.x[:, :1]) if self.of_counts else constant.x[:, :1]
            starts[0][:, :2] *= (mean / np.maximum(values.mean, 1e-12)[:, None]).clip(1)
        return highest(height, values, starts, _with_own(bounds, self.noise), self.gain)

    def _rough_counts(self, values: Values, curve: Switch) -> tuple[np.ndarray, Bounds]:
        """Parameters of the curve from negative binomial fits to cells in bins, and their bounds."""
        noise, first, mean = NOISES["nb"], bins(len(self.t)), values.mean
        few, t = in_bins(values, first), means_in_bins(self.t, first)
        flat = Smooth(np.ones((len(t), 1)))
        start = np.column_stack([np.log(mean), noise.start(values)[0]])
        within = _with_own(flat.bounds(len(mean)), noise)
        theta = maximise(partial(noise, flat), few, start, within, max_iter=ROUGH).x[:, -1]
        gene, x = best_starts(count_profile(few, t, self.strengths, mean, np.exp(theta)), self.n_starts)
        coarse = Switch(t, means_in_bins(self.design, first, axis=0), self.strengths)
        low, high = coarse.bounds(mean)
        x = np.column_stack([x, np.zeros((len(gene), self.design.shape[1])), theta[gene]])
        within = _with_own((low[gene], high[gene]), noise)
        found = maximise(partial(noise, coarse), few.only(gene), x, within, max_iter=ROUGH)
        return found.x[first_of_each(gene, found.value), :-1], (low, high)

    def _rough_normal(self, values: Values, curve: Switch) -> tuple[np.ndarray, Bounds]:
        """The same by least squares, for genes that rise from zero and for those that fall to it."""
        low, high = curve.bounds(np.abs(values.y).max(axis=1))
        found, bounds, genes = [], [], []
        for pinned, on in ((0, True), (1, False)):
            gene, x = best_starts(normal_profile(values, self.t, self.strengths, on=on), self.n_starts)
            gene, x = np.append(gene, np.arange(len(low))), np.concatenate([x, _flat(values.mean, low[:, 2], on)])
            within = low[gene], high[gene]
            within[0][:, :2], within[1][:, pinned] = 0, 0
            x = np.column_stack([x, np.zeros((len(gene), self.design.shape[1]))])
            found.append(maximise(partial(NOISES["gaussian"], curve), values.only(gene), x, within, max_iter=ROUGH))
            bounds.append(within)
            genes.append(gene)
        best = first_of_each(np.concatenate(genes), np.concatenate([each.value for each in found]))
        x = np.concatenate([each.x for each in found])[best]
        low, high = (np.concatenate(part)[best] for part in zip(*bounds, strict=True))
        return x, (low, high)


def highest(height: Callable, values: Values, starts: list[np.ndarray], bounds: Bounds, gain: float) -> Maximum:
    """The maximum from the start of each gene that is the best after a few iterations."""
    x = starts[0]
    if len(starts) > 1:
        tried = [maximise(height, values, start, bounds, max_iter=ROUGH) for start in starts]
        best = np.argmax([each.value for each in tried], axis=0)
        x = np.stack([each.x for each in tried])[best, np.arange(len(best))]
    return maximise(height, values, x, bounds, gain=gain)


def first_of_each(gene: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Positions of the largest value of each gene, in the order of the genes."""
    order = np.lexsort((-value, gene))
    return order[np.r_[True, np.diff(gene[order]) > 0]]


def _with_own(bounds: Bounds, noise: Noise) -> Bounds:
    """Bounds of the parameters of curve and noise."""
    low, high = np.array(noise.bounds).reshape(-1, 2).T
    n_genes = len(bounds[0])
    return np.column_stack([bounds[0], np.tile(low, (n_genes, 1))]), np.column_stack(
        [bounds[1], np.tile(high, (n_genes, 1))]
    )


def _flat(mean: np.ndarray, log_k: np.ndarray, on: bool) -> np.ndarray:
    """The switch without a floor that is most like a constant."""
    nothing = np.zeros_like(mean)
    levels = (nothing, 2 * mean) if on else (2 * mean, nothing)
    return np.column_stack([*levels, log_k, nothing + 0.5])
