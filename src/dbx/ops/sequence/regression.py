"""Multinomial regression on words: penalty by cross-validation, and rows without a label by self-training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse, special

from dbx.ops.annotation.multinomial import fit_multinomial
from dbx.ops.arrays import balanced_weights

PENALTIES = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
"""Ridge penalties that are tried, beside the sum of weighted losses."""
SELF_PENALTIES = (300.0, 100.0)
"""The same where rows have predicted labels: a regression that is sure of them would not change its mind."""
ROUNDS = 3
"""Rounds in which rows without a label get that which the last round predicts."""
TRUSTED = 3.0
"""Weight of a row with a label beside one with a predicted label of probability 1."""
MAX_ITER, TOLERANCE = 100, 1e-6


@dataclass(frozen=True)
class Regression:
    """Logits are ``features @ kernel + bias``."""

    kernel: np.ndarray
    bias: np.ndarray

    def logits(self, features: sparse.csr_matrix) -> np.ndarray:
        """Array of shape (n_rows, n_classes)."""
        return features @ self.kernel + self.bias

    def scaled(self, factor: float) -> Regression:
        """Surer, or less sure, by a factor of the logits."""
        return Regression(self.kernel * factor, self.bias * factor)


@dataclass(frozen=True)
class Problem:
    """Rows with labels (codes; -1 for none), their features, folds of cross-validation, and how they are weighted.

    The first ``n_own`` rows are judged (None: all); those behind are changed copies of rows with a label.
    """

    features: sparse.csr_matrix
    codes: np.ndarray
    folds: np.ndarray
    balanced: bool
    n_own: int | None = None

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.codes.max()) + 1

    @property
    def known(self) -> np.ndarray:
        """Numbers of the rows with a label, without changed copies."""
        return np.flatnonzero(self.codes[: self.n_own] >= 0)

    def loss(self, logits: np.ndarray) -> float:
        """Weighted mean loss of rows with a label, whose logits these are."""
        codes = self.codes[self.known]
        weights = row_weights(codes, balanced=self.balanced)
        logs = special.log_softmax(logits, axis=1)[np.arange(len(codes)), codes]
        return float(-(logs @ weights) / weights.sum())

    def accuracy(self, logits: np.ndarray) -> float:
        """Mean over classes of the share of rows with a label that are classified right, of logits of these rows."""
        codes = self.codes[self.known]
        return float((np.bincount(codes, logits.argmax(axis=1) == codes) / np.bincount(codes)).mean())


@dataclass(frozen=True)
class Fitted:
    """A regression with sharpened logits, and those of each labelled row by one that has not seen its label."""

    model: Regression
    held_out: np.ndarray
    loss: float
    penalty: float


def row_weights(codes: np.ndarray, *, balanced: bool) -> np.ndarray:
    """Weight of each row, 1 on average; with ``balanced`` classes have equal weight in all."""
    return balanced_weights(codes) if balanced else np.ones(len(codes))


def fit_words(problem: Problem, changed: Callable[[Fitted], Problem | None] | None = None) -> Fitted:
    """The regression of the penalty that predicts labels best which it has not seen.

    ``changed`` makes the problem with changed copies of all sequences, or None, given a first regression. It is solved
    instead if that predicts labels better. Where there are rows without a label the regression is fitted again with
    those that it predicts for them, if that predicts labels better (Lee, ICML workshop on representation learning,
    2013).
    """
    best = _of_best_penalty(problem, PENALTIES)
    more = None if changed is None else changed(best)
    if more is not None:
        other = _of_best_penalty(more, PENALTIES[max(PENALTIES.index(best.penalty) - 1, 0) :])
        if other.loss < best.loss:
            problem, best = more, other
    if (problem.codes >= 0).all():
        return best
    chosen = best.penalty
    for penalty in SELF_PENALTIES:
        found = _validated(problem, chosen, penalty)
        if found.loss >= best.loss:
            break
        best = found
    return best


def _of_best_penalty(problem: Problem, penalties: Sequence[float]) -> Fitted:
    """That before the first one, from the strongest on, that predicts labels less well."""
    best = _validated(problem, penalties[0], None)
    for penalty in penalties[1:]:
        found = _validated(problem, penalty, None)
        if found.loss >= best.loss:
            break
        best = found
    return best


def _validated(problem: Problem, penalty: float, again: float | None) -> Fitted:
    known, held_out = problem.known, np.zeros((len(problem.codes[: problem.n_own]), problem.n_classes))
    for fold in np.unique(problem.folds[known]):
        codes = np.where(problem.folds == fold, -1, problem.codes)
        if len(np.unique(codes[codes >= 0])) < problem.n_classes:
            continue  # all rows of a class are here: these stay undecided
        part = known[problem.folds[known] == fold]
        held_out[part] = _model(problem, codes, penalty, again).logits(problem.features[part])
    factor, loss = _sharpened(problem, held_out[known])
    model = _model(problem, problem.codes, penalty, again)
    return Fitted(model.scaled(factor), factor * held_out, loss, penalty)


def _sharpened(problem: Problem, logits: np.ndarray) -> tuple[float, float]:
    """The factor of logits with the least loss, and that loss: a strong penalty makes them too small."""
    found = optimize.minimize_scalar(
        lambda log: problem.loss(np.exp(log) * logits), bounds=(-2, 2.5), method="bounded", options={"xatol": 1e-3}
    )
    return float(np.exp(found.x)), float(found.fun)


def _model(problem: Problem, codes: np.ndarray, penalty: float, again: float | None) -> Regression:
    known = np.flatnonzero(codes >= 0)
    weights = row_weights(codes[known], balanced=problem.balanced)
    model = _fit(problem.features[known], codes[known], weights, penalty)
    if again is None:
        return model
    model = model.scaled(np.sqrt(again / penalty))
    for _ in range(ROUNDS):
        probabilities = special.softmax(model.logits(problem.features), axis=1)
        classes = np.where(codes < 0, probabilities.argmax(axis=1), codes)
        sure = np.where(codes < 0, probabilities.max(axis=1), TRUSTED)
        weights = row_weights(classes, balanced=problem.balanced)
        model = _fit(problem.features, classes, sure * weights, again, model)
    return model


def _fit(
    features: sparse.csr_matrix,
    codes: np.ndarray,
    weights: np.ndarray,
    penalty: float,
    start: Regression | None = None,
) -> Regression:
    """The minimum of the sum of weighted losses plus ``penalty / 2`` times the squared kernel."""
    first = None if start is None else (start.kernel, start.bias)
    return Regression(
        *fit_multinomial(features, codes, weights, penalty, start=first, max_iter=MAX_ITER, ftol=TOLERANCE)
    )
