"""Copy number from expression: genes of a chromosome that are raised or lowered together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import array_library
from dbx.ops.checks import check_above_zero, check_whole
from dbx.ops.hmm.baum_welch import Model
from dbx.ops.hmm.emissions import Data
from dbx.ops.hmm.markov import best_path
from dbx.ops.hmm.model_operator import MarkovOperator
from dbx.ops.hmm.packed import pack
from dbx.ops.hmm.smoothing import Windows
from dbx.ops.operator import Constant, Input, Output, Progress, silent
from dbx.ops.values import Codes

AT_ONCE = 2_000_000
"""Values that are worked on at once."""
CALIBRATED_ON = 300
"""Reference cells on which calls are calibrated."""
PROFILES = 100
"""Means of as many reference cells as a cluster has, on which calls of clusters are calibrated."""
ALTERED = 0.02
"""Largest fraction of the genes of reference cells that is called altered."""
STAY = (0.99, 0.998, 0.9995, 0.9999)
"""Probabilities to stay in a state that are tried in turn."""
FARTHER = 1.2
"""Factor of the means of loss and gain where none of them is enough."""
SEPARATED = 2.0
"""Smallest distance of loss and gain from neutral, in deviations of reference cells."""
DEPTH = 1e4
"""Total of each cell before the logarithm, with ``log_transform``."""


class CopyNumber(MarkovOperator):
    """Log expression minus that of reference cells, smoothed along chromosomes, and its loss, neutral and gain.

    Reference cells of several kinds give each gene a range of means, within which values count as 0. Neighbouring
    smoothed values are not independent: in the hidden Markov model the evidence of each is divided by the number of
    genes that a window is worth. The deviation of the neutral state is that of the reference cells, loss and gain are
    at the 2% and 98% quantiles of all cells (the outermost ones, with states in between), and both and the transitions
    are moved until at most 2% of the genes of reference cells are called altered. With clusters the deviation and these
    calls are those of means of as many reference cells as a cluster has.

    ``chromosomes`` and ``places`` are as in :class:`dbx.ops.GeneHMM`; ``reference`` names levels.

    New cells: by the reference cells and the model of the fit; with clusters, the profile of their cluster.
    """

    name = "copy_number"
    inputs: ClassVar = {
        "x": Input(genes=True),
        "kinds": Input(kind="codes", missing=True, unseen="missing", optional=True, of_fitted_cells=True),
        "clusters": Input(kind="codes", optional=True),
    }
    outputs: ClassVar = {
        "track": Output(),
        "states": Output(dtype="int8"),
        "mean": Output(),
        "score": Output(dtype="float64"),
        "fitted_model": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True
    precision = "float64"
    unlisted = frozenset({"chromosomes", "places"})

    def __init__(
        self,
        *,
        chromosomes: tuple[int, ...],
        places: tuple[float, ...] | None = None,
        reference: tuple[str, ...] = (),
        log_transform: bool = False,
        window: int = 101,
        clip: float = 3.0,
        n_states: int = 3,
    ):
        check_whole(window, 1, "window")
        check_above_zero(clip, "clip")
        check_whole(n_states, 3, "n_states")
        if n_states % 2 == 0:
            msg = f"n_states must be odd, neutral and as many losses as gains: 3 or 5; got {n_states}."
            raise ValueError(msg)
        super().__init__(n_states=n_states, names=("loss", "neutral", "gain") if n_states == 3 else ())
        self.chromosomes, self.places, self.reference = chromosomes, places, reference
        self.log_transform, self.window, self.clip = log_transform, window, clip
        self.temperature = self._windows().effective

    def _columns(self) -> np.ndarray:
        """Columns that take part, sorted by chromosome and place."""
        chromosomes = np.asarray(self.chromosomes)
        index = np.arange(len(chromosomes))
        order = np.lexsort((index if self.places is None else np.asarray(self.places), chromosomes))
        return order[chromosomes[order] >= 0]

    def _windows(self) -> Windows:
        chromosomes = np.asarray(self.chromosomes)
        return Windows(np.sort(chromosomes[chromosomes >= 0]), self.window)

    def fit(
        self,
        *,
        x: RowBlocks,
        kinds: Codes | None = None,
        clusters: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Means of reference cells, then the model of smoothed values."""
        codes = np.zeros(x.n_rows, int) if kinds is None else self._kinds(kinds)
        self._keep_bounds(x, codes)
        rng = np.random.default_rng(seed)
        of_reference = np.flatnonzero(codes >= 0)
        some = np.sort(rng.choice(of_reference, min(CALIBRATED_ON, len(of_reference)), replace=False))
        every = np.sort(rng.choice(x.n_rows, min(CALIBRATED_ON, x.n_rows), replace=False))
        progress(0, 2, "calibration")
        tracks = self._track(x.dense(some))
        if clusters is None:
            self._calibrate(tracks, self._track(x.dense(every)))
            return
        usual = self._keep_profiles(x, clusters)
        drawn = rng.multinomial(usual, np.full(len(some), 1 / len(some)), PROFILES) / usual
        self._calibrate(drawn @ tracks, np.asarray(self.profiles[...]))

    def _kinds(self, kinds: Codes) -> np.ndarray:
        """Number of the kind of each reference cell, -1 for other cells."""
        codes = np.asarray(kinds.codes)
        if not self.reference:
            return codes
        numbers = np.full(kinds.n_levels + 1, -1)
        for number, level in enumerate(self.reference):
            numbers[kinds.levels.index(level)] = number
        return numbers[codes]

    def _keep_bounds(self, x: RowBlocks, codes: np.ndarray) -> None:
        """Smallest and largest mean of each gene over kinds of reference cells."""
        numbers = np.unique(codes[codes >= 0])
        sums, sizes = np.zeros((len(numbers), len(self._columns()))), np.zeros(len(numbers))
        for rows in self._blocks(x.n_rows):
            values = self._logs(x.dense(rows))
            for i, number in enumerate(numbers):
                chosen = codes[rows] == number
                sums[i] += values[chosen].sum(axis=0)
                sizes[i] += chosen.sum()
        means = sums / sizes[:, None]
        self.lowest, self.highest = Constant(means.min(axis=0)), Constant(means.max(axis=0))

    def _blocks(self, n_rows: int) -> Iterator[np.ndarray]:
        size = max(1, AT_ONCE // len(self.chromosomes))
        return (np.arange(start, min(start + size, n_rows)) for start in range(0, n_rows, size))

    def _logs(self, x: Any) -> Any:
        """Values of the columns that take part, after the logarithm if there is to be one."""
        xp = array_library(x)
        if self.log_transform:
            total = x.sum(axis=1, keepdims=True)
            x = xp.log1p(x * (DEPTH / xp.where(total > 0, total, 1)))
        return x[:, self._columns()].astype(xp.float64 if xp is np else x.dtype)

    def _track(self, x: Any) -> Any:
        """Smoothed difference to the reference, centred by the median of each cell: NumPy or JAX."""
        xp = array_library(x)
        values = self._logs(x)
        low, high = (xp.asarray(bound[...]).astype(values.dtype) for bound in (self.lowest, self.highest))
        apart = xp.where(values > high, values - high, xp.where(values < low, values - low, 0))
        smooth = self._windows().mean(xp.clip(apart, -self.clip, self.clip))
        return smooth - xp.median(smooth, axis=1, keepdims=True)

    def _calibrate(self, of_reference: np.ndarray, of_all: np.ndarray) -> None:
        """Move loss and gain outwards, and stay longer, until reference cells are called neutral."""
        deviation = max(float(of_reference.std()), 1e-6)
        low, high = np.quantile(of_all, [0.02, 0.98]) / (self.n_states // 2)  # of the outermost states
        low, high = min(low, -SEPARATED * deviation), max(high, SEPARATED * deviation)
        while True:
            for stay in STAY:
                self._keep(_model(low, high, deviation, stay, self.n_states))
                altered = float((self._decoded(of_reference)["states"] != self.n_states // 2).mean())
                if altered <= ALTERED:
                    self.altered = Constant(np.array([altered, deviation]))
                    return
            low, high = FARTHER * low, FARTHER * high

    def _decoded(self, track: np.ndarray) -> dict[str, np.ndarray]:
        """States and posterior means of smoothed values, arrays of their shape."""
        chromosomes = self._windows().chromosomes
        sequence = np.arange(len(track))[:, None] * (chromosomes.max() + 1) + chromosomes
        packed = pack(np.unique(sequence, return_inverse=True)[1].ravel())
        found = self.decoded(packed, Data(track.reshape(1, -1)[:, packed.rows]), None)
        mean = found["posteriors"] @ self.model.emission["means"][0, :, 0]
        return {"states": found["states"].reshape(track.shape), "mean": mean.reshape(track.shape)}

    def _keep_profiles(self, x: RowBlocks, clusters: Codes) -> int:
        """Mean of each cluster; returns their median size.

        Profiles of smaller clusters are noisier: they are shrunk to the noise of the median one before states are
        found.
        """
        codes = np.asarray(clusters.codes)
        sums = np.zeros((clusters.n_levels, len(self._columns())))
        for rows in self._blocks(x.n_rows):
            np.add.at(sums, codes[rows], self._track(x.dense(rows)))
        sizes = np.maximum(np.bincount(codes, minlength=len(sums)), 1)
        usual = int(np.median(sizes))
        self.profiles = Constant(sums / sizes[:, None])
        self.shrunk = Constant(np.sqrt(np.minimum(sizes / usual, 1)))
        return usual

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Smoothed values and states by NumPy."""
        x, clusters = inputs["x"], inputs.get("clusters")
        shape, columns = (x.n_rows, x.n_columns), self._columns()
        track, mean = (np.full(shape, np.nan, np.float32) for _ in range(2))
        states, score = np.full(shape, -1, np.int8), np.empty(x.n_rows)
        for rows in self._blocks(x.n_rows):
            here, scale = self._track(x.dense(rows)), np.ones((len(rows), 1))
            if clusters is not None:
                codes = np.asarray(clusters.codes)[rows]
                here, scale = np.asarray(self.profiles[...])[codes], np.asarray(self.shrunk[...])[codes, None]
            found, at = self._decoded(here * scale), np.ix_(rows, columns)
            track[at], states[at], mean[at] = here, found["states"], found["mean"] / scale
            score[rows] = np.abs(here).mean(axis=1)
        return {"track": track, "states": states, "mean": mean, "score": score}

    def __call__(self, x: Any, kinds: Any = None, clusters: Codes | None = None) -> dict[str, Any]:
        """Smoothed values, states and posterior means, (n_cells, n_genes), and the score of each cell."""
        track, scale = self._track(x), jnp.ones((len(x), 1), x.dtype)
        if clusters is not None:
            track = jnp.asarray(self.profiles[...]).astype(track.dtype)[clusters.codes]
            scale = jnp.asarray(self.shrunk[...]).astype(track.dtype)[clusters.codes][:, None]
        columns, chromosomes = self._columns(), self._windows().chromosomes
        begins = jnp.tile(np.append(True, chromosomes[1:] != chromosomes[:-1]), len(x))
        found, logs = self.messages((track * scale).reshape(-1, 1), begins)
        mean = jnp.exp(found.log_posterior) @ jnp.asarray(self.centre[...])[:, 0]
        states = best_path(logs, begins)

        def among_all(value, fill):
            return jnp.full(x.shape, fill, value.dtype).at[:, columns].set(value.reshape(track.shape))

        return {
            "track": among_all(track, jnp.nan),
            "states": among_all(states, -1),
            "mean": among_all(mean.reshape(track.shape) / scale, jnp.nan),
            "score": jnp.abs(track).mean(axis=1),
        }

    @property
    def fitted_model(self) -> Mapping[str, Any]:
        """The hidden Markov model, and what reference cells are like."""
        model = self.model
        altered, deviation = np.asarray(self.altered[...])
        emission = {name: value[0] for name, value in model.emission.items()}
        return {
            "params": {"startprob": model.startprob[0], "transmat": model.transmat[0], **emission},
            "reference_altered": float(altered),
            "reference_deviation": float(deviation),
            "temperature": float(self.temperature),
        }


def _model(low: float, high: float, deviation: float, stay: float, n_states: int) -> Model:
    """Neutral in the middle, steps of one loss and one gain around it, and moves to the next state only."""
    steps = np.arange(n_states) - n_states // 2
    means = np.where(steps < 0, -low, high) * steps
    beside = np.abs(np.subtract.outer(steps, steps)) == 1
    transmat = stay * np.eye(n_states) + (1 - stay) * beside / beside.sum(axis=1, keepdims=True)
    startprob = np.where(steps == 0, 0.96, 0.04 / (n_states - 1))
    emission = {"means": means[None, :, None], "variances": np.full((1, n_states, 1), deviation**2)}
    return Model(startprob[None], transmat[None], emission)
