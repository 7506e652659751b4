"""Where Baum-Welch starts: clusters of the data, of their running means, and of random centres."""

from __future__ import annotations

import numpy as np

from dbx.ops.clusters.kmeans import best_kmeans
from dbx.ops.hmm.baum_welch import Model, Problem
from dbx.ops.hmm.emissions import Categorical
from dbx.ops.hmm.outliers import noise_deviation, running_medians
from dbx.ops.hmm.packed import Packed

STAY = 0.9
"""Probability to stay in a state in the first start."""
WINDOWS = 1, 5, 11, 21
"""Positions of running means: states last for several."""
SAMPLE = 20_000
"""Positions that are clustered."""
APART = 3.0
"""Smallest distance of loss and gain from 0 at the start, in deviations of the noise."""
SOFT = 0.9
"""Weight of the cluster of a position; the rest is shared, so that no parameter starts at zero."""


def first_models(problem: Problem, n_states: int, n_init: int, kind: str, seed: int) -> Model:
    """Starts of ``n_init`` fits.

    With ``"kmeans"`` the first half are k-means clusters of running means over each number of positions in
    :data:`WINDOWS`, and the others clusters around random positions; with ``"random"`` all are the latter.
    """
    rng = np.random.default_rng(seed)
    windows = WINDOWS[1:] if isinstance(problem.family, Categorical) else WINDOWS
    features = {}
    models = []
    for start in range(n_init):
        window = windows[start % len(windows)]
        if window not in features:
            features[window] = running_means(problem.packed, _features(problem), window)
        refine = kind == "kmeans" and start < max(1, n_init // 2)
        labels = _clusters(features[window], n_states, rng, refine=refine)
        models.append(_model(problem, labels, n_states, STAY if start == 0 else rng.uniform(0.5, 0.98), rng, start))
    return Model(
        np.concatenate([one.startprob for one in models]),
        np.concatenate([one.transmat for one in models]),
        {name: np.concatenate([one.emission[name] for one in models]) for name in problem.family.names},
    )


def _features(problem: Problem) -> np.ndarray:
    """What positions are clustered by: (n_features, n_positions), NaN where missing."""
    values = problem.data.values
    if isinstance(problem.family, Categorical):
        indicator = (values[0][None] == np.arange(problem.family.n_symbols)[:, None]).astype(np.float64)
        indicator[:, values[0] < 0] = np.nan
        return indicator
    x = values / (1 if problem.data.sizes is None else problem.data.sizes)
    if not hasattr(problem.family, "floor"):
        x = np.log1p(x)  # counts, whose deviation grows with their mean
    x = np.where(True if problem.data.seen is None else problem.data.seen, x, np.nan)
    deviation = np.nanstd(x, axis=1, keepdims=True)
    return (x - np.nanmean(x, axis=1, keepdims=True)) / np.where(deviation > 0, deviation, 1)


def running_means(packed: Packed, x: np.ndarray, window: int) -> np.ndarray:
    """Means over the positions around each in its sequence; missing values are left out, 0 where all are missing.

    Arrays of shape (n_features, n_positions).
    """
    ordered = x[:, packed.ordered]
    seen = ~np.isnan(ordered)
    sums = np.cumsum(np.pad(np.where(seen, ordered, 0), ((0, 0), (1, 0))), axis=1)
    numbers = np.cumsum(np.pad(seen, ((0, 0), (1, 0))), axis=1)
    lengths = np.bincount(packed.sequence)
    ends = np.repeat(np.cumsum(lengths), lengths)
    begins = ends - np.repeat(lengths, lengths)
    at = np.arange(x.shape[1])
    low, high = np.maximum(at - window // 2, begins), np.minimum(at + window // 2 + 1, ends)
    means = (sums[:, high] - sums[:, low]) / np.maximum(numbers[:, high] - numbers[:, low], 1)
    found = np.empty_like(means)
    found[:, packed.ordered] = means
    return found


def _clusters(features: np.ndarray, n_states: int, rng: np.random.Generator, *, refine: bool) -> np.ndarray:
    """The nearest of several centres for each position."""
    n = features.shape[1]
    some = features.T if n <= SAMPLE else features.T[np.sort(rng.choice(n, SAMPLE, replace=False))]
    some = np.ascontiguousarray(some, np.float64)
    if refine:
        centres = best_kmeans(some, n_states, n_init=1, max_iter=30, seed=int(rng.integers(2**31))).centroids
    else:
        different = np.unique(some, axis=0)
        centres = different[rng.choice(len(different), n_states, replace=len(different) < n_states)]
    nearness = features.T @ centres.T - (centres**2).sum(axis=1) / 2
    return nearness.argmax(axis=1)


def _model(problem: Problem, labels: np.ndarray, n_states: int, stay: float, rng, start: int) -> Model:
    """Parameters from soft memberships in clusters."""
    posterior = np.full((1, n_states, len(labels)), (1 - SOFT) / n_states)
    posterior[0, labels, np.arange(len(labels))] += SOFT
    if problem.clamp is not None:
        known = np.flatnonzero(problem.clamp >= 0)
        posterior[0, :, known] = np.eye(n_states)[problem.clamp[known]]
    transmat = np.full((n_states, n_states), (1 - stay) / max(n_states - 1, 1))
    np.fill_diagonal(transmat, stay if n_states > 1 else 1.0)
    if start:
        transmat *= rng.uniform(0.5, 1.5, transmat.shape)
        transmat /= transmat.sum(axis=1, keepdims=True)
    startprob = np.full((1, n_states), 1 / n_states)
    emission = problem.family.estimated(problem.data, posterior, problem.family.first(1, n_states))
    return Model(startprob, transmat[None], emission)


def copy_number_model(problem: Problem) -> Model:
    """Loss, neutral and gain: 0 and the 2% and 98% quantiles of running medians of 5, few transitions."""
    medians = running_medians(problem.packed, problem.data)
    low, high = np.quantile(medians, [0.02, 0.98])
    spread = noise_deviation(problem.packed, problem.data, medians)
    means = np.array([min(low, -APART * spread), 0, max(high, APART * spread)])
    transmat = np.full((3, 3), 0.005)
    np.fill_diagonal(transmat, 0.99)
    emission = {"means": means[None, :, None], "variances": np.full((1, 3, 1), spread**2)}
    return Model(np.array([[0.02, 0.96, 0.02]]), transmat[None], emission)
