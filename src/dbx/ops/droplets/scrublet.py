"""Scrublet: doublets by the fraction of simulated ones among a cell's neighbours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx._warnings import warn
from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import row_sums
from dbx.ops.checks import check_fraction, check_known, check_minimums, check_number, listed
from dbx.ops.droplets.doublet_features import batch_codes
from dbx.ops.droplets.doublet_neighbours import doublet_score, doublets_near, nearest_points
from dbx.ops.droplets.doublet_space import MIN_GENES, TARGET, Recipe, placed
from dbx.ops.droplets.score_threshold import between_modes, by_rate
from dbx.ops.droplets.scrublet_arrays import names_text, padded, stacked, unstacked
from dbx.ops.droplets.scrublet_sample import Sample, Simulated, Simulation, fitted_sample
from dbx.ops.droplets.simulated_pairs import check_simulation
from dbx.ops.graph.metrics import METRICS
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Text, silent, text_of
from dbx.ops.values import Codes, Whole

MOST = 0.5
"""Fraction of the cells above which a threshold between two modes cannot be one of doublets."""


class Scrublet(Operator):
    """Scores from the simulated doublets among the neighbours of each cell (Wolock et al., Cell Systems, 2019).

    Each sample is filtered, normalised and projected by itself, and its doublets are simulated from its own cells.
    With the same pairs of cells the scores are scanpy's; the neighbours are exact.

    New cells: projected like the reference, and compared with its cells and simulated doublets; doublets of a new
    sample are simulated from its own cells.
    """

    name = "scrublet"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",)),
        "batch": Input(kind="codes", optional=True, unseen="extend"),
    }
    outputs: ClassVar = {
        "score": Output(dtype="float64"),
        "doublet": Output(dtype="bool"),
        "summary": Output(axis="none", dtype=None, view=True),
    }
    result = "score"
    rowwise = True
    precision = "float64"
    unlisted = frozenset({"neighbor_parents", "given", "batched_by"})
    columns: Constant
    used: Constant
    weights: Constant
    offset: Constant
    depth: Constant
    genes: Constant
    points: Constant
    sizes: Constant
    sample: Constant
    simulated: Constant
    pairs: Constant
    n_neighbors_found: Constant
    k: Constant
    ranks: Constant

    def __init__(
        self,
        *,
        expected_doublet_rate: float = 0.05,
        sim_doublet_ratio: float = 2.0,
        synthetic_doublet_umi_subsampling: float = 1.0,
        knn_dist_metric: str = "euclidean",
        normalize_variance: bool = True,
        log_transform: bool = False,
        mean_center: bool = True,
        n_prin_comps: int = 30,
        n_neighbors: int | None = None,
        threshold: float | None = None,
        neighbor_parents: bool = False,
        given: bool = False,
        batched_by: str | None = None,
    ):
        check_fraction(expected_doublet_rate, "expected_doublet_rate")
        check_simulation(sim_doublet_ratio, synthetic_doublet_umi_subsampling)
        check_known(knn_dist_metric, tuple(METRICS), "knn_dist_metric")
        if threshold is not None:
            check_number(threshold, "threshold")
            if np.isnan(threshold):
                msg = "threshold must be a number; got nan."
                raise ValueError(msg)
        self.expected_doublet_rate, self.sim_doublet_ratio = expected_doublet_rate, sim_doublet_ratio
        self.synthetic_doublet_umi_subsampling = synthetic_doublet_umi_subsampling
        self.knn_dist_metric = knn_dist_metric
        self.normalize_variance, self.log_transform, self.mean_center = normalize_variance, log_transform, mean_center
        self.n_prin_comps, self.n_neighbors, self.threshold = n_prin_comps, n_neighbors, threshold
        self.neighbor_parents, self.given, self.batched_by = neighbor_parents, given, batched_by
        check_minimums(self, n_prin_comps=1, n_neighbors=1)
        self.passed: Passed | None = None

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[Operator]:
        """With given doublets the cells are normalised like those, and hold no counts."""
        return _of_normalised() if config.get("given") else cls

    def fit(self, *, x: RowBlocks, batch: Codes | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Simulate doublets in each sample, project them, and score them."""
        simulated = self._given_doublets()
        samples = []
        for code, name in enumerate(("",) if batch is None else batch.levels):
            rows = slice(None) if batch is None else np.flatnonzero(batch.codes == code)
            samples.append(self._fitted_sample(x, rows, name, seed, simulated.get(name)))
            progress(code + 1, 1 if batch is None else batch.n_levels)
        self.seed = Constant(np.asarray(seed, np.int64))
        self._keep(samples)

    def extend(self, *, x: RowBlocks, batch: Codes, seed: int = 0, progress: Progress = silent) -> None:
        """Simulate doublets in samples that were not in the fit, from their cells; others are unchanged."""
        samples = self.samples()
        new = range(len(samples), batch.n_levels)
        if self.given and new:
            msg = (
                "scrublet was run with simulated doublets that were passed to it; there are none of the samples "
                f"{listed(batch.levels[len(samples) :])}: run dbx.pp.scrublet on their cells."
            )
            raise ValueError(msg)
        for code in new:
            samples.append(self._fitted_sample(x, np.flatnonzero(batch.codes == code), batch.levels[code], seed, None))
        if new:
            self._keep(samples)

    def _fitted_sample(self, x: RowBlocks, rows: Any, name: str, seed: int, given: Simulated | None) -> Sample:
        return fitted_sample(
            sparse.csr_matrix(x.rows(rows)),
            name,
            recipe=self._recipe(),
            simulation=Simulation(self.sim_doublet_ratio, self.synthetic_doublet_umi_subsampling),
            given=given,
            n_neighbors=self.n_neighbors,
            seed=seed,
        )

    def _keep(self, samples: list[Sample]) -> None:
        for attribute, value in stacked(samples).items():
            setattr(self, attribute, Constant(value))
        self.names = Text(names_text(samples))
        self._score(samples)

    def _given_doublets(self) -> Mapping[str, Simulated]:
        if not self.given:
            return {}
        if self.passed is None:
            msg = (
                "scrublet was run with simulated doublets that were passed to it and are not recorded: pass them "
                "again, dbx.pp.scrublet(adata, adata_sim)."
            )
            raise ValueError(msg)
        simulated, self.passed = self.passed.simulated, None
        return simulated

    def _recipe(self) -> Recipe:
        return Recipe(self.log_transform, self.mean_center, self.normalize_variance, self.n_prin_comps, self.given)

    def _score(self, samples: list[Sample]) -> None:
        """Score the doublets, and find the threshold of each sample."""
        scores = [s.scores_of_simulated(self.expected_doublet_rate, self.knn_dist_metric) for s in samples]
        self.simulated_scores = Constant(np.concatenate(scores))
        self.thresholds = Constant(np.array(list(map(self._threshold_of, samples, scores))))
        if self.neighbor_parents:
            self.parents = Constant(padded([row for s in samples for row in s.parents_near(self.knn_dist_metric)]))

    def _threshold_of(self, sample: Sample, simulated: np.ndarray) -> float:
        if self.threshold is not None:
            return float(self.threshold)
        found = between_modes(simulated)
        observed = sample.scores_of_observed(self.expected_doublet_rate, self.knn_dist_metric)
        if found is not None and (observed > found).mean() <= MOST:
            return found
        threshold = by_rate(observed, self.expected_doublet_rate)
        reason = (
            "the scores of simulated doublets do not have two modes"
            if found is None
            else f"the threshold between the two modes of simulated doublets, {found:.2f}, calls most cells"
        )
        warn(
            f"Doublets{f' of {sample.name!r}' if sample.name else ''} are called by expected_doublet_rate="
            f"{self.expected_doublet_rate} (threshold {threshold:.3f}), as {reason}. Look at the histograms, "
            "dbx.pl.scrublet_score_distribution(adata), and pass threshold=... for another."
        )
        return threshold

    def check_differentiable(self) -> None:
        """Raise ValueError: neighbours are counted."""
        msg = "scrublet counts simulated doublets among a cell's neighbours, which has no gradient."
        raise ValueError(msg)

    def samples(self) -> list[Sample]:
        """The fitted samples."""
        names = ("columns", "used", "weights", "offset", "depth", "genes", "points", "sizes", "pairs")
        arrays = {name: np.asarray(getattr(self, name)[...]) for name in (*names, "n_neighbors_found")}
        return unstacked(arrays, json.loads(text_of(self.names)))

    def prepared(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the number of doublets near each cell, found sample by sample."""
        x = inputs["x"]
        codes, samples = batch_codes(inputs.get("batch"), x.n_rows), self.samples()
        near = np.full(x.n_rows, -1)
        for code in np.unique(codes):
            mine = codes == code
            counts = sparse.csr_matrix(x.rows(slice(None) if mine.all() else np.flatnonzero(mine)))
            near[mine] = self._near_in(samples[code], counts)
        return {**inputs, "x": Whole(np.zeros((0, 0))), "near": near}

    def _near_in(self, sample: Sample, counts: sparse.csr_matrix) -> np.ndarray:
        """Doublets near each cell of one sample, -1 for a cell that the filter removes."""
        passes, queries = placed(counts, sample.genes, sample.space, self._recipe())
        found = [
            np.asarray(doublets_near(index >= 0, distance, np.full(len(index), sample.k)))
            for index, distance in sample.nearest_to(queries, self.knn_dist_metric)
        ]
        near = np.full(len(passes), -1)
        near[passes] = np.concatenate([np.zeros(0, int), *found])
        return near

    def __call__(self, x, batch: Codes | None = None, near=None) -> dict[str, Any]:
        """Score and call of each cell; NaN and no doublet for a cell that the filter removes.

        ``near`` is the number of simulated doublets near each cell, -1 for such a cell; found here if not passed.
        """
        codes = jnp.zeros(len(x if near is None else near), jnp.int32) if batch is None else jnp.asarray(batch.codes)
        near = self._near(x, codes) if near is None else near
        n_observed, n_simulated = jnp.asarray(self.sizes[...]).T
        of_sample = jnp.asarray(self.k[...])[codes], (n_simulated / n_observed)[codes]
        score = jnp.where(near < 0, jnp.nan, doublet_score(near, *of_sample, self.expected_doublet_rate))
        return {"score": score, "doublet": score > jnp.asarray(self.thresholds[...])[codes]}

    def _near(self, x, codes):
        """Doublets near each cell, among the points of all samples at once."""
        passes, queries = zip(*(self._placed(i, x) for i in range(self.depth.shape[0])), strict=True)
        rows = jnp.arange(len(x))
        index, distance = nearest_points(
            jnp.stack(queries)[codes, rows],
            jnp.asarray(self.points[...]),
            k=self.ranks.shape[0],
            metric=self.knn_dist_metric,
            own=codes,
            sample=jnp.asarray(self.sample[...]),
        )
        near = doublets_near(jnp.asarray(self.simulated[...])[index], distance, jnp.asarray(self.k[...])[codes])
        return jnp.where(jnp.stack(passes)[codes, rows], near, -1)

    def _placed(self, i: int, x):
        """Which cells pass the filter of a sample, and their coordinates there."""
        counted = x * jnp.asarray(self.genes[...][i], x.dtype)
        chosen = x[:, self.columns[...]] * jnp.asarray(self.used[...][i], x.dtype)
        if self.given:
            return jnp.ones(len(x), bool), chosen @ jnp.asarray(self.weights[...][i]) - jnp.asarray(self.offset[...][i])
        if self.log_transform:
            chosen = jnp.log1p(chosen * (self.depth[...][i] / jnp.maximum(row_sums(counted), 1))[:, None])
        total = row_sums(chosen)[:, None]
        scaled = chosen * (TARGET / jnp.where(total > 0, total, 1))
        z = scaled @ jnp.asarray(self.weights[...][i]) - jnp.asarray(self.offset[...][i])
        return (counted > 0).sum(axis=1) >= MIN_GENES, z

    @property
    def summary(self) -> dict[str, Any]:
        """Scores and parents of simulated doublets, threshold and parameters; of each sample, with several."""
        samples = self.samples()
        n_observed, n_simulated = np.asarray(self.sizes[...]).T
        scores = np.split(np.asarray(self.simulated_scores[...]), np.cumsum(n_simulated)[:-1])
        parents = np.split(np.asarray(self.parents[...]), np.cumsum(n_observed)[:-1]) if self.neighbor_parents else []
        found = {}
        for i, sample in enumerate(samples):
            found[sample.name] = {
                "doublet_scores_sim": scores[i],
                "doublet_parents": sample.pairs,
                "parameters": self._parameters(sample),
                "threshold": float(self.thresholds[...][i]),
            }
            if self.neighbor_parents:
                found[sample.name]["doublet_neighbor_parents"] = parents[i]
        if self.batched_by is None:
            return found[""]
        return {"batches": found, "batched_by": self.batched_by}

    def _parameters(self, sample: Sample) -> dict[str, Any]:
        return {
            "expected_doublet_rate": self.expected_doublet_rate,
            "sim_doublet_ratio": self.sim_doublet_ratio,
            "n_neighbors": sample.n_neighbors,
            "random_state": int(self.seed[...]),
        }


class Passed:
    """Doublets of each sample that were simulated before, by its name (empty without batches)."""

    def __init__(self, simulated: Mapping[str, Simulated]):
        self.simulated = simulated


@cache
def _of_normalised() -> type[Operator]:
    """The class for cells that are normalised like the doublets passed with them."""
    inputs = {**Scrublet.inputs, "x": Input(genes=True)}
    body = {"inputs": inputs, "__module__": __name__, "__qualname__": Scrublet.__qualname__}
    return type(Scrublet.__name__, (Scrublet,), body)
