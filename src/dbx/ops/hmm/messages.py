"""Forward and backward messages of all sequences together, in NumPy.

Messages are scaled probabilities, not logarithms: a product of matrices is then one call of BLAS, and a zero transition
is exactly zero. What does not fit into the range of numbers is computed by :mod:`dbx.ops.hmm.log_messages`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dbx.ops.hmm.packed import Packed

TINY = {4: 1e-30, 8: 1e-280}
"""Bytes of a number -> sum of a message below which digits may be lost."""
LOWEST = {4: -80.0, 8: -650.0}
"""Bytes of a number -> logarithm below which an emission may become zero."""
RARE = 1e-20
"""Transitions below which a state that was lost to the range of numbers is not reached again from others."""
LOST = 1e-3
"""Difference of the sum of expected transitions from their number, relative, that shows a lost state."""
SCALED = 4
"""Pieces after which messages between them are scaled: in float64 they stay within the range of numbers."""
BLOCK = 1 << 14
"""Positions that are worked on at once, so that they stay in the processor's cache."""


class RangeError(ArithmeticError):
    """Probabilities differ by more than the range of numbers."""


@dataclass(frozen=True)
class Expected:
    """What a pass over the sequences finds, for each of several models."""

    log_likelihood: np.ndarray
    """Of each sequence, an array of shape (n_models, n_sequences)."""
    posterior: np.ndarray
    """Probability of each state at each position, an array of shape (n_models, n_states, n_positions)."""
    transitions: np.ndarray
    """Expected number of transitions, an array of shape (n_models, n_states, n_states)."""
    starts: np.ndarray
    """Expected number of sequences that start in a state, an array of shape (n_models, n_states)."""
    predictive: np.ndarray | None = None
    """As :meth:`Sweeps.predictive`, where it is known."""


class Sweeps:
    """Arrays of shape (n_models, n_states, n_positions) for passes over the same sequences.

    Before each pass ``emission`` is filled with log-probabilities of the data given the state.
    """

    def __init__(self, packed: Packed, n_models: int, n_states: int, dtype: np.dtype | type = np.float64):
        self.packed, self.dtype = packed, dtype
        shape = n_models, n_states, len(packed.rows)
        self.emission, self.alpha, self.beta = (np.empty(shape, dtype) for _ in range(3))
        self.scale, self.highest = (np.empty((n_models, shape[2]), dtype) for _ in range(2))
        self.factors = np.empty((n_models, packed.n_lanes))

    def first(self, n_models: int) -> None:
        """Go on with fewer models."""
        self.emission, self.alpha, self.beta = (x[:n_models] for x in (self.emission, self.alpha, self.beta))
        self.scale, self.highest = self.scale[:n_models], self.highest[:n_models]
        self.factors = self.factors[:n_models]

    def expected(self, startprob: np.ndarray, transmat: np.ndarray) -> Expected:
        """Posteriors and expected counts of models with these probabilities; the posterior is valid until the next.

        Raises
        ------
        RangeError
            Probabilities differ by more than the range of numbers.
        """
        rare = bool((transmat < RARE).any())
        startprob, transmat = startprob.astype(self.dtype), transmat.astype(self.dtype)
        self._exponentiate(check=rare)
        with np.errstate(under="ignore", divide="ignore", invalid="ignore", over="ignore"):
            for every in (8, 2, 1):
                try:
                    self._sweep(startprob, transmat, every)
                    break
                except RangeError:
                    if every == 1:
                        raise
            found = self._summed(transmat)
            n_pairs = len(self.packed.rows) - len(self.packed.firsts)
            total = found.transitions.sum(axis=(1, 2))
            if rare and not (np.abs(total - n_pairs) <= LOST * max(n_pairs, 1)).all():
                raise RangeError
            return found

    def log_likelihood(self, startprob: np.ndarray, transmat: np.ndarray) -> np.ndarray:
        """Of each sequence, an array of shape (n_models, n_sequences): as :meth:`expected`, without going back.

        Where transitions are impossible only the way back shows that a state was lost.
        """
        if (transmat < RARE).any():
            return self.expected(startprob, transmat).log_likelihood
        startprob, transmat = startprob.astype(self.dtype), transmat.astype(self.dtype)
        self._exponentiate()
        turned = np.ascontiguousarray(transmat.swapaxes(1, 2))
        with np.errstate(under="ignore", divide="ignore", invalid="ignore"):
            for every in (8, 2, 1):
                try:
                    enter, _ = _boundaries(self.packed, self.emission, startprob, transmat, every)
                    self._forward(enter, turned, every)
                    break
                except RangeError:
                    if every == 1:
                        raise
            return self._joined()

    def _joined(self) -> np.ndarray:
        """Log-likelihood of each sequence, with the factors of pieces, which begin with a message that sums to 1."""
        packed, n_sequences = self.packed, len(self.packed.firsts)
        is_inner = np.ones(packed.n_lanes, bool)
        is_inner[packed.firsts] = False
        inner = np.flatnonzero(is_inner)
        entering = self.alpha[:, :, packed.before[inner]].sum(axis=1)
        self.scale[:, inner] *= entering
        self.factors[:, inner] += np.log(entering)
        found = np.log(self.alpha[:, :, packed.lasts].sum(axis=1, dtype=np.float64))
        if n_sequences == 1:
            return found + (self.factors.sum(axis=1) + self.highest.sum(axis=1, dtype=np.float64))[:, None]
        for model, factors in enumerate(self.factors):
            found[model] += np.bincount(packed.sequence[: packed.n_lanes], factors, n_sequences)
            found[model] += np.bincount(packed.sequence, self.highest[model], n_sequences)
        return found

    def predictive(self) -> np.ndarray:
        """After a pass: log-probability of each position given those before it, an array of shape (n_models, n)."""
        total = self.alpha.sum(axis=1, dtype=np.float64)
        before = total[:, self.packed.before]
        before[:, self.packed.firsts] = 1
        total /= before
        total *= self.scale
        np.log(total, out=total)
        total += self.highest
        return total

    def _blocks(self) -> Iterator[slice]:
        n = self.emission.shape[2]
        return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))

    def _exponentiate(self, *, check: bool = False) -> None:
        lowest = LOWEST[self.emission.itemsize]
        for block in self._blocks():
            part = self.emission[:, :, block]
            highest = part.max(axis=1)
            highest[~np.isfinite(highest)] = 0
            part -= highest[:, None]
            if check and ((part < lowest) & (part > -np.inf)).any():
                raise RangeError
            np.exp(part, out=part)
            self.highest[:, block] = highest

    def _sweep(self, startprob, transmat, every: int) -> None:
        enter, leave = _boundaries(self.packed, self.emission, startprob, transmat, every)
        turned = np.ascontiguousarray(transmat.swapaxes(1, 2))
        self._forward(enter, turned, every)
        self._backward(leave, transmat, every)

    def _forward(self, enter, turned, every: int) -> None:
        """Probabilities given all positions so far, up to factors, and these factors."""
        alpha, emission, before = self.alpha, self.emission, 0
        self.scale.fill(1)
        self.factors.fill(0)
        for t, (start, stop) in enumerate(self.packed.steps()):
            here = alpha[:, :, start:stop]
            if t:
                np.matmul(turned, alpha[:, :, before : before + stop - start], out=here)
                here *= emission[:, :, start:stop]
            else:
                np.multiply(enter, emission[:, :, start:stop], out=here)
            if t % every == every - 1 or t == 0:
                total = _checked(here.sum(axis=1))
                here /= total[:, None]
                self.scale[:, start:stop] = total
                self.factors[:, : stop - start] += np.log(total)
            before = start

    def _backward(self, leave, transmat, every: int) -> None:
        """Probabilities of all later positions given the state, up to factors."""
        beta, emission, steps = self.beta, self.emission, self.packed.steps()
        product, n = np.empty_like(leave), 0
        for t in range(len(steps) - 1, -1, -1):
            start, stop = steps[t]
            if n:
                after = slice(*steps[t + 1])
                here = beta[:, :, start : start + n]
                np.multiply(emission[:, :, after], beta[:, :, after], out=product[:, :, :n])
                np.matmul(transmat, product[:, :, :n], out=here)
                if t % every == 0:
                    here /= _checked(here.sum(axis=1))[:, None]
            if stop - start > n:
                beta[:, :, start + n : stop] = leave[:, :, n : stop - start]
                n = stop - start

    def _summed(self, transmat) -> Expected:
        """Turns messages into posteriors, in place."""
        packed, alpha = self.packed, self.alpha
        log_likelihood = self._joined()
        transitions = np.zeros(transmat.shape)
        is_first = np.zeros(len(packed.rows), bool)
        is_first[packed.firsts] = True
        for block in self._blocks():
            ahead, beta = self.emission[:, :, block], self.beta[:, :, block]
            ahead *= beta
            beta *= alpha[:, :, block]
            total = beta.sum(axis=1)
            if not (total > 0).all():
                raise RangeError
            beta /= total[:, None]
            ahead /= (self.scale[:, block] * total)[:, None]
            if block.start < packed.n_lanes:
                ahead[:, :, is_first[block]] = 0
            earlier = alpha.take(packed.before[block], axis=2)
            transitions += np.matmul(earlier, ahead.swapaxes(1, 2))
        starts = self.beta[:, :, packed.firsts].sum(axis=2, dtype=np.float64)
        return Expected(log_likelihood, self.beta, transmat * transitions, starts)


def _boundaries(packed: Packed, emission, startprob, transmat, every: int) -> tuple[np.ndarray, np.ndarray]:
    """Predicted probabilities where each lane begins, and messages from behind its end: (n_models, K, n_lanes)."""
    enter = np.repeat(startprob[:, :, None], packed.n_lanes, axis=2)
    leave = np.ones_like(enter)
    if not packed.chains:
        return enter, leave
    through = _products(packed, emission, transmat, every)  # (n_models, n_lanes, K, K)
    order = np.concatenate(packed.chains)
    ends = np.cumsum([len(lanes) for lanes in packed.chains])
    n_first, n_states = len(packed.chains[0]), startprob.shape[1]
    # rows of onward are pieces by their number, then by sequence
    through = through.astype(np.float64)
    onward = np.ascontiguousarray((through @ transmat[:, None])[:, order])
    found = np.empty((len(startprob), len(order), 1, n_states))
    found[:, :n_first] = startprob[:, None, None]
    before = 0
    for number, (begin, end) in enumerate(itertools.pairwise(ends)):
        here = found[:, begin:end]
        np.matmul(found[:, before : before + end - begin], onward[:, before : before + end - begin], out=here)
        if number % SCALED == 0:
            here /= here.sum(axis=3, keepdims=True)
        before = begin
    found /= found.sum(axis=3, keepdims=True)
    enter[:, :, order] = found[:, :, 0].swapaxes(1, 2)
    back = np.ascontiguousarray((transmat[:, None] @ through)[:, order])
    message = np.ones((len(startprob), len(order), n_states, 1))
    links = list(zip([0, *ends[:-2]], ends[:-1], ends[1:], strict=True))
    for number, (before, begin, end) in enumerate(reversed(links)):
        here = message[:, before : before + end - begin]
        np.matmul(back[:, begin:end], message[:, begin:end], out=here)
        if number % SCALED == 0:
            here /= here.sum(axis=2, keepdims=True)
    message /= message.sum(axis=2, keepdims=True)
    leave[:, :, order] = message[..., 0].swapaxes(1, 2)
    if not (np.isfinite(found).all() and np.isfinite(message).all()):
        raise RangeError
    return enter, leave


def _products(packed: Packed, emission, transmat, every: int) -> np.ndarray:
    """Products of the matrices of each lane from its first position on, scaled: (n_models, n_lanes, K, K)."""
    n_models, n_states = transmat.shape[:2]
    turned = np.ascontiguousarray(transmat.swapaxes(1, 2))
    n = packed.n_lanes
    done = np.empty((n_models, n_states, n_states, n), emission.dtype)
    size = np.zeros((n_models, n_states, n))  # logarithm of the factor of each row
    product = np.zeros_like(done)  # by column, then row: all of it is one product of two matrices
    first = emission[:, :, :n].astype(np.float64)
    product[:, range(n_states), range(n_states)] = first > 0
    size += np.log(np.where(first > 0, first, 1))
    other = np.empty_like(product)
    for t, (start, stop) in enumerate(packed.steps()):
        if stop - start < n:
            done[..., stop - start : n] = product[..., stop - start :]
            n = stop - start
            product = np.ascontiguousarray(product[..., :n])
            other = np.empty_like(product)
        if t:
            flat = product.reshape(n_models, n_states, -1)
            np.matmul(turned, flat, out=other.reshape(flat.shape))
            other *= emission[:, :, None, start:stop]
            product, other = other, product
        if t % every == every - 1:
            total = product.sum(axis=1)
            _checked(total[total > 0])
            total[total == 0] = 1
            size[..., :n] += np.log(total)
            product /= total[:, None]
    done[..., :n] = product
    total = done.sum(axis=1)
    size = np.where(total > 0, size + np.log(total), -np.inf)
    size -= size.max(axis=1, keepdims=True)
    factor = np.where(total > 0, np.exp(size) / total, 0)
    return np.ascontiguousarray((done * factor[:, None]).transpose(0, 3, 2, 1), emission.dtype)


def _checked(total: np.ndarray) -> np.ndarray:
    if not (total > TINY[total.itemsize]).all():
        raise RangeError
    return total
