"""Doublets by a calibrated probability, from several simulations and widths of neighbourhoods."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import row_sums
from dbx.ops.checks import check_fraction, check_minimums, check_number
from dbx.ops.droplets.doublet_evidence import N_FEATURES, N_POINTS, neighbour_odds, sizes
from dbx.ops.droplets.doublet_features import batch_codes
from dbx.ops.droplets.doublet_neighbours import nearest_points
from dbx.ops.droplets.doublet_odds import Cells, Odds, fitted_odds, log_odds, log_odds_of, sample_shifts
from dbx.ops.droplets.doublet_space import MIN_GENES, Space, filtered, passing
from dbx.ops.droplets.expected_rate import draw_sizes
from dbx.ops.droplets.measured_cells import Measured, evidence, log_space, measured, simulated
from dbx.ops.droplets.scrublet_sample import check_kept
from dbx.ops.droplets.simulated_pairs import check_simulation, pairs_within
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Text, silent, text_of
from dbx.ops.values import Codes, Whole

MAX_TRAINED = 5_000
"""Doublets of each draw that the classifier is trained on; all of them are neighbours."""


class CalibratedDoublets(Operator):
    """Probability of a doublet by classifiers of observed cells against simulated doublets.

    Each is trained on another set of doublets, on the log-odds of doublets among the neighbours at several widths, the
    logarithms of total counts and of detected genes, and their squares and products; log-odds are averaged. With
    samples, neighbours are those of a cell's own sample, and the coefficients of small samples are close to those of
    all.

    New cells: the stored doublets, coefficients and threshold; of an unknown sample: those of all samples.
    """

    name = "scrublet_calibrated"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",)),
        "batch": Input(kind="codes", optional=True, unseen="missing"),
    }
    outputs: ClassVar = {
        "score": Output(),
        "doublet": Output(dtype="bool"),
        "summary": Output(axis="none", dtype=None, view=True),
    }
    result = "score"
    rowwise = True
    precision = "float64"
    unlisted = frozenset({"batched_by"})

    def __init__(
        self,
        *,
        expected_doublet_rate: float = 0.05,
        sim_doublet_ratio: float = 2.0,
        n_prin_comps: int = 30,
        n_draws: int = 5,
        threshold: float | None = None,
        batched_by: str | None = None,
    ):
        check_fraction(expected_doublet_rate, "expected_doublet_rate")
        check_simulation(sim_doublet_ratio, 1.0)
        if threshold is not None:
            check_number(threshold, "threshold")
        self.expected_doublet_rate, self.sim_doublet_ratio = expected_doublet_rate, sim_doublet_ratio
        self.n_prin_comps, self.n_draws = n_prin_comps, n_draws
        self.threshold, self.batched_by = threshold, batched_by
        check_minimums(self, n_prin_comps=1, n_draws=1)

    def fit(self, *, x: RowBlocks, batch: Codes | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Simulate sets of doublets, train a classifier on each, and set prior and threshold."""
        codes, names = batch_codes(batch, x.n_rows), ("",) if batch is None else batch.levels
        kept = filtered(sparse.csr_matrix(x.rows(slice(None))))
        check_kept(kept, "")
        space, sample, rng = log_space(kept, self.n_prin_comps), codes[kept.cells], np.random.default_rng(seed)
        self._keep_space(space, kept.genes)
        observed = measured(kept.counts, space, sample)
        sizes_of_draws = draw_sizes(self.n_draws, self.sim_doublet_ratio * len(sample))
        draws, odds, logits, trained = [], [], [], []
        for number, n_doublets in enumerate(sizes_of_draws, 1):
            pairs = pairs_within(sample, n_doublets, rng)
            doublets = simulated(kept.counts, pairs, space, sample, rng)
            some = np.sort(rng.permutation(n_doublets)[:MAX_TRAINED])
            cells = Cells(evidence(observed, observed, doublets), sample)
            against = Cells(evidence(doublets.of(some), observed, doublets), doublets.sample[some])
            odds.append(fitted_odds(cells, against, len(names), self.expected_doublet_rate))
            logits.append(log_odds_of(odds[-1], cells))
            trained.append((pairs[some], against.sample, log_odds_of(odds[-1], against)))
            draws.append(doublets)
            progress(number, len(sizes_of_draws))
        self._keep_points(observed, draws)
        self.centre, self.spread, self.coefficients = (Constant(np.stack(part)) for part in zip(*odds, strict=True))
        self.names, self.seed = Text(json.dumps(names)), Constant(np.asarray(seed, np.int64))
        self._calibrate(np.mean(logits, axis=0), sample, len(names))
        pairs, samples, logit = (np.concatenate(part) for part in zip(*trained, strict=True))
        self.pairs, self.sample_of_pairs = Constant(pairs), Constant(samples)
        self.simulated_scores = Constant(1 / (1 + np.exp(-(logit + np.asarray(self.shifts[...])[samples]))))

    def _keep_space(self, space: Space, genes: np.ndarray) -> None:
        self.genes, self.columns = Constant(genes), Constant(np.flatnonzero(genes)[space.columns])
        self.depth, self.weights = Constant(np.asarray(space.depth)), Constant(space.weights)
        self.offset = Constant(space.offset)

    def _keep_points(self, observed: Measured, draws: list[Measured]) -> None:
        self.observed, self.sample = Constant(observed.points), Constant(observed.sample)
        self.doublets = Constant(np.stack([draw.points for draw in draws]))
        self.doublet_sample = Constant(np.stack([draw.sample for draw in draws]))

    def _calibrate(self, logit: np.ndarray, sample: np.ndarray, n_samples: int) -> None:
        """Shift each sample's log-odds to the expected rate, and call the expected number of cells."""
        rate = self.expected_doublet_rate
        shifts = sample_shifts(logit, sample, n_samples, rate)
        score = np.sort(1 / (1 + np.exp(-(logit + shifts[sample]))).astype(np.float32))
        n_called = max(round(rate * len(score)), 1)
        # halfway to the next, so that rounding does not change the calls
        between = score[-n_called - 1 :][:2].mean() if self.threshold is None else self.threshold
        self.shifts, self.cut = Constant(shifts), Constant(np.asarray(between, np.float64))

    def check_differentiable(self) -> None:
        """Raise ValueError: neighbours are counted."""
        msg = "scrublet_calibrated counts simulated doublets among a cell's neighbours, which has no gradient."
        raise ValueError(msg)

    def prepared(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the features of each cell in each draw, found sample by sample."""
        x = inputs["x"]
        codes = batch_codes(inputs.get("batch"), x.n_rows)
        genes = np.asarray(self.genes[...])
        passes, counts = passing(sparse.csr_matrix(x.rows(slice(None))), genes)
        columns = np.searchsorted(np.flatnonzero(genes), np.asarray(self.columns[...]))
        rest = (np.asarray(value[...]) for value in (self.weights, self.offset))
        space = Space(columns, float(self.depth[...]), *rest)
        features = np.full((x.n_rows, self.doublets.shape[0], N_FEATURES), np.nan)
        if passes.any():
            cells, observed = measured(counts, space, codes[passes]), self._measured(self.observed, self.sample)
            for i in range(self.doublets.shape[0]):
                draw = self._measured(self.doublets[...][i], self.doublet_sample[...][i])
                features[passes, i] = evidence(cells, observed, draw)
        return {**inputs, "x": Whole(np.zeros((0, 0))), "features": features}

    @staticmethod
    def _measured(points: Any, sample: Any) -> Measured:
        points = np.asarray(points[...])
        return Measured(points, np.zeros((len(points), 2)), np.asarray(sample[...]))

    def __call__(self, x, batch: Codes | None = None, features=None) -> dict[str, Any]:
        """Probability and call of each cell; NaN and no doublet for a cell that the filter removes.

        ``features``, of shape (n_cells, n_draws, n_features), are NaN for such a cell; found here if not passed.
        """
        n_rows = len(x if features is None else features)
        codes = jnp.zeros(n_rows, jnp.int32) if batch is None else jnp.asarray(batch.codes)
        features = self._features(x, codes) if features is None else features
        draws = [
            Odds(*(jnp.asarray(value[...])[i] for value in (self.centre, self.spread, self.coefficients)))
            for i in range(self.centre.shape[0])
        ]
        logit = sum(log_odds(odds, features[:, i], codes) for i, odds in enumerate(draws)) / len(draws)
        score = jax.nn.sigmoid(logit + jnp.asarray(self.shifts[...])[codes])
        return {"score": score, "doublet": score > jnp.asarray(self.cut[...])}

    def _features(self, x, codes):
        """The same for dense rows of any samples at once."""
        counted = x * jnp.asarray(self.genes[...], x.dtype)
        total, n_genes = row_sums(counted), (counted > 0).sum(axis=1)
        log = jnp.log1p(x[:, self.columns[...]] * (self.depth[...] / jnp.maximum(total, 1))[:, None])
        places = log @ jnp.asarray(self.weights[...]) - jnp.asarray(self.offset[...])
        places = places.astype(jnp.float32).astype(x.dtype)  # as the points are stored
        observed, sample = jnp.asarray(self.observed[...], x.dtype), jnp.asarray(self.sample[...])
        features = []
        for i in range(self.doublets.shape[0]):
            points = jnp.concatenate([observed, jnp.asarray(self.doublets[...][i], x.dtype)])
            samples = jnp.concatenate([sample, jnp.asarray(self.doublet_sample[...][i])])
            k = min(N_POINTS, len(points))
            index, distance = nearest_points(places, points, k, "euclidean", own=codes, sample=samples)
            odds = neighbour_odds(index >= len(observed), distance)
            features.append(jnp.concatenate([odds, sizes(total, n_genes)], axis=1))
        return jnp.where((n_genes >= MIN_GENES)[:, None, None], jnp.stack(features, axis=1), jnp.nan)

    @property
    def summary(self) -> dict[str, Any]:
        """Scores and parents of simulated doublets, threshold and parameters; of each sample, with several."""
        names, sample = json.loads(text_of(self.names)), np.asarray(self.sample[...])
        place = np.zeros(len(sample), np.int64)
        found = {}
        for i, name in enumerate(names):
            place[sample == i] = np.arange((sample == i).sum())
            mine = np.asarray(self.sample_of_pairs[...]) == i
            found[name] = {
                "doublet_scores_sim": np.asarray(self.simulated_scores[...])[mine],
                "doublet_parents": place[np.asarray(self.pairs[...])[mine]],
                "parameters": self._parameters(),
                "threshold": float(self.cut[...]),
            }
        return found[""] if self.batched_by is None else {"batches": found, "batched_by": self.batched_by}

    def _parameters(self) -> dict[str, Any]:
        return {
            "method": "calibrated",
            "expected_doublet_rate": self.expected_doublet_rate,
            "sim_doublet_ratio": self.sim_doublet_ratio,
            "n_draws": self.doublets.shape[0],
            "random_state": int(self.seed[...]),
        }
