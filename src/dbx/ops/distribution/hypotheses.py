"""Mixtures of two conditions under each class of difference, and their evidence by BIC or AIC."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from dbx.ops.distribution.components import FEWEST, matched, separated
from dbx.ops.distribution.mixture import Mixture, Sample, fit_mixture, iterate
from dbx.ops.distribution.samples import Scaled

CLASSES = ("EE", "EP", "DE", "DP", "DM", "DB")
"""Equal with one or several components; different means, proportions, number of components, or both."""
EE, EP, DE, DP, DM, DB = range(6)
PATTERNS = 3
"""Components of a mixture up to which each is left out of each condition in turn."""


@dataclass
class Hypotheses:
    """The best mixture of each class; arrays of shape (n_genes, n_classes, 2, n_components)."""

    share: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    evidence: np.ndarray
    """Log-likelihood less the penalty, an array of shape (n_genes, n_classes); -inf without a mixture."""
    penalty: np.ndarray
    """Half of the criterion's penalty."""

    @classmethod
    def empty(cls, n_genes: int, n_components: int) -> Hypotheses:
        """Of no mixtures."""
        shape = (n_genes, len(CLASSES), 2, n_components)
        evidence = np.full(shape[:2], -np.inf)
        return cls(np.zeros(shape), np.zeros(shape), np.ones(shape), evidence, np.zeros(shape[:2]))

    @classmethod
    def joined(cls, parts: Sequence[Hypotheses]) -> Hypotheses:
        """Those of consecutive genes."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def offer(self, at: np.ndarray, kind: np.ndarray | int, pair: Mixture, likelihood, penalty, valid) -> None:
        """Take mixtures of genes ``at`` where they are valid and better than what there is.

        ``pair`` has means and standard deviations of shape (n_genes, 2, n_components).
        """
        kind = np.broadcast_to(kind, at.shape)
        score = likelihood - penalty
        better = valid & (score > self.evidence[at, kind])
        at, kind, n = at[better], kind[better], pair.mean.shape[-1]
        self.evidence[at, kind], self.penalty[at, kind] = score[better], penalty[better]
        self.share[at, kind] = 0
        for mine, new in ((self.share, pair.share), (self.mean, pair.mean), (self.sd, pair.sd)):
            mine[at, kind, :, :n] = new[better]


def fit_hypotheses(
    scaled: Scaled,
    tested: np.ndarray,
    n_components: int,
    rng: np.random.Generator,
    *,
    shared_variance: bool,
    criterion: str = "bic",
) -> Hypotheses:
    """Fit pooled mixtures to all genes, and those of two conditions to the genes ``tested`` (a mask).

    Components of a mixture have one variance, or without ``shared_variance`` one or several, whichever is better.
    """
    found = Hypotheses.empty(len(tested), n_components)
    usable = (scaled.sample.sizes >= FEWEST).all(axis=1)
    for equal in (True,) if shared_variance else (True, False):
        fits = Fits(scaled, n_components, rng, equal, criterion)
        pooled = fits.of_pool(np.flatnonzero(usable), found)
        for at, mixture in pooled[1:]:
            here = tested[at]
            fits.of_shared(at[here], mixture.genes(here), found)
        fits.of_each(np.flatnonzero(usable & tested), found)
    return found


@dataclass
class Fits:
    """The fits of some genes with equal or unequal variances of components."""

    scaled: Scaled
    most: int
    rng: np.random.Generator
    equal: bool
    criterion: str

    def of_pool(self, at: np.ndarray, found: Hypotheses) -> list[tuple[np.ndarray, Mixture]]:
        """Mixtures of both conditions together: (genes, mixture) for each number of components."""
        pool = self.scaled.sample.pooled()
        fits = self._growing(pool, at)
        for here, mixture, likelihood in fits:
            sizes = pool.sizes[here]
            penalty = self._free(mixture.n_components) * self._each(sizes[:, 0])
            kind = EE if mixture.n_components == 1 else EP
            found.offer(here, kind, _twice(mixture), likelihood, penalty, separated(mixture, sizes))
        return [(here, mixture) for here, mixture, _ in fits]

    def of_shared(self, at: np.ndarray, pool: Mixture, found: Hypotheses) -> None:
        """Components of the pool with shares of each condition: DP, or DM where a condition lacks one."""
        if not len(at):
            return
        sample, n = self.scaled.sample.genes(at), pool.n_components
        start = Mixture(np.repeat(pool.share, 2, axis=1), pool.mean, pool.sd)
        full = iterate(sample, start, equal=self.equal)
        self._offer_shared(at, DP, full, sample, found)
        if n > PATTERNS:
            return
        for group in range(2):
            for component in range(n):
                share = full.share.copy()
                share[:, group, component] = 0
                share /= np.maximum(share.sum(axis=2, keepdims=True), 1e-12)
                less = iterate(sample, Mixture(share, full.mean, full.sd), equal=self.equal)
                self._offer_shared(at, DM, less, sample, found)

    def of_each(self, at: np.ndarray, found: Hypotheses) -> None:
        """A mixture for each condition: DE and DB, and where components match after all DP and DM."""
        fits = [self._growing(self.scaled.sample.group(group), at) for group in range(2)]
        sizes = self.scaled.sample.sizes
        for genes_one, one, likely_one in fits[0]:
            for genes_two, two, likely_two in fits[1]:
                here, i, j = np.intersect1d(genes_one, genes_two, assume_unique=True, return_indices=True)
                if not len(here):
                    continue
                pair, size = (one.genes(i), two.genes(j)), sizes[here]
                penalty = sum(
                    self._free(mixture.n_components) * self._each(size[:, g]) for g, mixture in enumerate(pair)
                )
                valid = separated(pair[0], size[:, :1]) & separated(pair[1], size[:, 1:])
                kind = self._kind(here, pair, size)
                found.offer(here, kind, _joined(*pair), likely_one[i] + likely_two[j], penalty, valid)

    def _growing(self, sample: Sample, at: np.ndarray) -> list[tuple[np.ndarray, Mixture, np.ndarray]]:
        """One component more for the genes that the last one improved: (genes, mixture, log-likelihood)."""
        fits = []
        best = np.full(len(sample.value), -np.inf)
        for n in range(1, self.most + 1):
            if not len(at):
                break
            here = sample.genes(at)
            mixture = fit_mixture(here, n, self.rng, equal=self.equal)
            likelihood = mixture.log_likelihood(here)
            fits.append((at, mixture, likelihood))
            score = likelihood - self._free(n) * self._each(here.sizes.sum(axis=1))
            improved = score > best[at]
            best[at] = np.maximum(score, best[at])
            at = at[improved]
        return fits

    def _offer_shared(self, at: np.ndarray, kind: int, mixture: Mixture, sample: Sample, found: Hypotheses) -> None:
        sizes = sample.sizes
        lacking = (mixture.share <= 0).sum(axis=2)
        whole = self._free(mixture.n_components) - (mixture.n_components - 1)
        shares = ((mixture.n_components - 1 - lacking) * self._each(sizes)).sum(axis=1)
        penalty = whole * self._each(sizes.sum(axis=1)) + shares
        found.offer(at, kind, _twice(mixture), mixture.log_likelihood(sample), penalty, separated(mixture, sizes))

    def _kind(self, here: np.ndarray, pair: tuple[Mixture, Mixture], sizes: np.ndarray) -> np.ndarray:
        match = matched(*pair, sizes, self.scaled.centre[here], self.scaled.scale[here])
        n_one, n_two = (mixture.n_components for mixture in pair)
        if n_one != n_two:
            return np.where(match.any(axis=(1, 2)), DM, DB)
        all_match = np.all(match.any(axis=2) & match.any(axis=1), axis=1)
        return np.where(all_match & (n_one > 1), DP, DE)

    def _each(self, sizes: np.ndarray) -> np.ndarray:
        """Penalty of a free parameter that so many cells determine."""
        return np.log(sizes) / 2 if self.criterion == "bic" else np.ones(sizes.shape)

    def _free(self, n: int) -> int:
        """Free parameters of a mixture of n components."""
        return 2 * n if self.equal else 3 * n - 1


def _twice(mixture: Mixture) -> Mixture:
    """The same components for both conditions."""
    share = np.broadcast_to(mixture.share, (len(mixture.mean), 2, mixture.n_components))
    return Mixture(share, *(np.repeat(part[:, None], 2, axis=1) for part in (mixture.mean, mixture.sd)))


def _joined(one: Mixture, two: Mixture) -> Mixture:
    """Components of either condition side by side, the shorter padded without a share."""
    n = max(one.n_components, two.n_components)

    def wide(part: np.ndarray, fill: float) -> np.ndarray:
        return np.pad(part, ((0, 0), (0, n - part.shape[1])), constant_values=fill)

    return Mixture(
        np.stack([wide(m.share[:, 0], 0.0) for m in (one, two)], axis=1),
        np.stack([wide(m.mean, 0.0) for m in (one, two)], axis=1),
        np.stack([wide(m.sd, 1.0) for m in (one, two)], axis=1),
    )
