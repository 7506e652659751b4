"""All samples of Scrublet in a few arrays, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from dbx.ops.droplets.doublet_space import Space
from dbx.ops.droplets.scrublet_sample import Sample


def stacked(samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    """Arrays with a first axis of samples, and those of cells, doublets and points one sample after the other."""
    columns = np.unique(np.concatenate([sample.space.columns for sample in samples]))
    n_comps = max(sample.observed.shape[1] for sample in samples)
    weights, offset = np.zeros((len(samples), len(columns), n_comps)), np.zeros((len(samples), n_comps))
    used = np.zeros((len(samples), len(columns)), bool)
    for i, sample in enumerate(samples):
        at, width = np.searchsorted(columns, sample.space.columns), len(sample.space.offset)
        weights[i, at, :width], offset[i, :width], used[i, at] = sample.space.weights, sample.space.offset, True
    sizes = [(len(sample.observed), len(sample.simulated)) for sample in samples]
    return {
        "columns": columns,
        "used": used,
        "weights": weights,
        "offset": offset,
        "depth": np.array([sample.space.depth for sample in samples]),
        "genes": np.stack([sample.genes for sample in samples]),
        "points": np.concatenate([_widened(sample.points, n_comps) for sample in samples]),
        "sizes": np.array(sizes),
        "sample": np.repeat(np.arange(len(samples)), np.sum(sizes, axis=1)),
        "simulated": np.repeat(np.tile([False, True], len(samples)), np.ravel(sizes)),
        "pairs": np.concatenate([sample.pairs for sample in samples]),
        "n_neighbors_found": np.array([sample.n_neighbors for sample in samples]),
        "k": np.array([sample.k for sample in samples]),
        "ranks": np.arange(max(sample.k for sample in samples)),
    }


def unstacked(arrays: Mapping[str, np.ndarray], names: Sequence[str]) -> list[Sample]:
    """The samples."""
    n_observed, n_simulated = arrays["sizes"].T
    points = np.split(arrays["points"], np.cumsum(n_observed + n_simulated)[:-1])
    pairs = np.split(arrays["pairs"], np.cumsum(n_simulated)[:-1])
    samples = []
    for i, name in enumerate(names):
        used = arrays["used"][i]
        space = Space(
            arrays["columns"][used], float(arrays["depth"][i]), arrays["weights"][i][used], arrays["offset"][i]
        )
        cells, doublets = np.split(points[i], [n_observed[i]])
        neighbors = int(arrays["n_neighbors_found"][i])
        samples.append(Sample(name, arrays["genes"][i], space, cells, doublets, pairs[i], neighbors))
    return samples


def padded(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of different lengths in one array, -1 where there is nothing."""
    lengths = np.array([len(row) for row in rows])
    whole = np.full((len(rows), lengths.max(initial=0)), -1)
    whole[np.arange(whole.shape[1]) < lengths[:, None]] = np.concatenate(rows)
    return whole


def _widened(points: np.ndarray, n_comps: int) -> np.ndarray:
    return np.pad(points, ((0, 0), (0, n_comps - points.shape[1])))


def names_text(samples: Sequence[Sample]) -> str:
    """The names of the samples as JSON."""
    return json.dumps([sample.name for sample in samples])
