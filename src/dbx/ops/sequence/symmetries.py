"""Changes of sequences that turn each class into another: the next phase, and the other strand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy import optimize, sparse

from dbx.ops.sequence.network import reverse_complement
from dbx.ops.sequence.pooling import PHASES
from dbx.ops.sequence.regression import Fitted, Problem
from dbx.ops.sequence.words import word_table

AGREEMENT = 0.8
"""Share of its accuracy with which a regression must find the other class of changed sequences."""
SHORTEST = 3 * PHASES


@dataclass(frozen=True)
class Sequences:
    """Distributions over bases, the mask of positions, and the longest words that are counted in them."""

    soft: np.ndarray
    mask: np.ndarray
    words: int

    def table(self) -> sparse.csr_matrix:
        """Words by phase."""
        return word_table(self.soft, self.mask, self.words, by_position=False)

    def shifted(self, n: int) -> Sequences:
        """Without their first bases."""
        soft, mask = (np.concatenate([x[:, n:], np.zeros_like(x[:, :n])], axis=1) for x in (self.soft, self.mask))
        return Sequences(soft, mask, self.words)

    def other_strand(self) -> Sequences:
        """Reverse complements, of whole codons, so that the phase does not depend on the length."""
        mask = self.mask & (np.arange(self.mask.shape[1]) < self.mask.sum(axis=1, keepdims=True) // PHASES * PHASES)
        soft, mask = map(np.asarray, reverse_complement(jnp.asarray(self.soft * mask[..., None]), jnp.asarray(mask)))
        return Sequences(soft, mask, self.words)


def with_changes(problem: Problem, found: Fitted, sequences: Sequences) -> Problem | None:
    """The problem with labelled sequences also in the next phases, and on the other strand; None if that is no use.

    A change is used where it turns each class into one class, the same or another, as the model ``found`` sees it.
    """
    known = problem.known
    sequences = Sequences(sequences.soft[known], sequences.mask[known], sequences.words)
    if sequences.mask.sum(axis=1).min() < SHORTEST:
        return None
    next_phase = _turned(problem, found, sequences.shifted(1), PHASES)
    other_strand = _turned(problem, found, sequences.other_strand(), 2)
    made: list[tuple[Any, np.ndarray]] = [(sequences, np.arange(problem.n_classes))]
    if next_phase is not None:
        made += [(sequences.shifted(1), next_phase), (sequences.shifted(2), next_phase[next_phase])]
    if other_strand is not None:
        made += [(version.other_strand(), other_strand[classes]) for version, classes in made]
    if len(made) == 1:
        return None
    codes = [classes[problem.codes[known]] for _, classes in made[1:]]
    return Problem(
        sparse.vstack([problem.features, *(version.table() for version, _ in made[1:])], format="csr"),
        np.concatenate([problem.codes, *codes]),
        np.concatenate([problem.folds, np.tile(problem.folds[known], len(made) - 1)]),
        problem.balanced,
        n_own=len(problem.codes),
    )


def _turned(problem: Problem, found: Fitted, changed: Sequences, order: int) -> np.ndarray | None:
    """The class of each class after a change, which must be the first one after so many; None if it is no one class."""
    known, n = problem.known, problem.n_classes
    confusion, codes = np.zeros((n, n)), problem.codes[known]
    seen = found.model.logits(changed.table()).argmax(axis=1)
    np.add.at(confusion, (codes, seen), 1 / np.bincount(codes)[codes])
    _, classes = optimize.linear_sum_assignment(-confusion)
    again = np.arange(n)
    for _ in range(order):
        again = classes[again]
    agreement = confusion[np.arange(n), classes].mean()
    sure = agreement >= AGREEMENT * problem.accuracy(found.held_out[known])
    return classes if sure and (again == np.arange(n)).all() else None
