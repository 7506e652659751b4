"""Draws from the posterior distribution of counts by Gibbs sampling."""

from __future__ import annotations

import numpy as np

from dbx.ops.abundance.classes import EquivalenceClasses

SWEEPS = 30
"""Sweeps of each chain from the estimate; every repeat is a chain of its own, so that they are independent."""


def drawn(classes: EquivalenceClasses, counts, lengths, a, prior: float, n_chains: int, rng) -> np.ndarray:
    """Shares of transcripts times the number of fragments, an array of shape (n_chains, n_transcripts).

    In turn shares of transcripts are drawn from gamma distributions with the assigned counts plus the prior as shape,
    and the fragments of each class are assigned to its members by their weighted shares.
    """
    state = np.broadcast_to(np.round(a, 3), (n_chains, len(a)))
    members = Members.of(classes, lengths)
    whole = np.floor(counts + 0.5).astype(np.int64)
    for _ in range(SWEEPS):
        state = members.assigned(whole, rng.standard_gamma(state + prior), rng)
    shares = rng.standard_gamma(state + prior)
    return shares / shares.sum(axis=1, keepdims=True) * counts.sum()


class Members:
    """Members of the classes, the first of every class together, then the second and so on."""

    def __init__(self, rounds, n_transcripts: int):
        self.rounds, self.n_transcripts = rounds, n_transcripts

    @classmethod
    def of(cls, classes: EquivalenceClasses, lengths: np.ndarray) -> Members:
        weights = classes.matrix.data if classes.weights is not None else 1 / lengths[classes.indices]
        sizes = np.diff(classes.indptr)
        rounds = []
        for place in range(int(sizes.max(initial=0))):
            which = np.flatnonzero(sizes > place)
            at = classes.indptr[:-1][which] + place
            rounds.append((which, classes.indices[at], weights[at], sizes[which] == place + 1))
        return cls(rounds, classes.n_transcripts)

    def assigned(self, counts: np.ndarray, shares: np.ndarray, rng) -> np.ndarray:
        """Fragments of each class given to its members one after the other, binomially among what is left."""
        n_chains, found = len(shares), np.zeros((len(shares), self.n_transcripts))
        parts = [weights * shares[:, transcripts] for _, transcripts, weights, _ in self.rounds]
        later = np.zeros((n_chains, len(counts)))
        for (which, *_), part in zip(self.rounds, parts, strict=True):
            later[:, which] += part
        left = np.broadcast_to(counts, later.shape).copy()
        chain = np.arange(n_chains)[:, None]
        for (which, transcripts, _, last), part in zip(self.rounds, parts, strict=True):
            rest = later[:, which]
            share = np.clip(np.divide(part, rest, out=np.ones_like(part), where=rest > 0), 0, 1)
            given = rng.binomial(left[:, which], np.where(last, 1, share))
            left[:, which] -= given
            later[:, which] = np.maximum(rest - part, 0)
            np.add.at(found, (chain, transcripts[None]), given)
        return found
