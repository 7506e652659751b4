"""Half of the cells mapped onto the other half by ``dbx.rerun``, beside a run of all cells, for every step on graphs.

    python -m benchmarks.graphs.new_cells FOLDER [sim3 paul15 varied chcl]

FOLDER holds the scorers with their data: ``score_trajectory.py`` (sim3, paul15), ``score_velocity.py`` (varied) and
``score_doublet.py`` (chcl). Prints a line of a table for each result: mapped cells beside the same cells in the run of
all, then the reference's own cells beside theirs, then the mapped cells in two joint runs, each of all mapped cells and
another half of the reference: nothing is mapped there, so that it is how far the method repeats itself. An error
against the truth is followed by that of the run of all cells. The last lines say whether the reference's own cells get
back the stored bits, all of them and a third.
"""

from __future__ import annotations

import importlib
import itertools
import sys
import warnings
from collections.abc import Callable, Iterator

import anndata as ad
import numpy as np
from scipy import sparse
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

import dbx

TIMES = ("dpt_pseudotime", "pseudotime")
FATES = {"connectivity": {"kernel": "connectivity"}, "hard": {}, "soft": {"scheme": "soft"}}


def trajectory(adata: ad.AnnData, root: str, ends: dict[str, list[str]]) -> None:
    """Every step from counts to fates, in place."""
    adata.layers["counts"] = adata.X.copy()
    dbx.pp.normalize_total(adata)
    adata.layers["linear"] = adata.X.copy()
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=50)
    dbx.pp.neighbors(adata, n_neighbors=30, n_pcs=30)
    dbx.tl.diffmap(adata)
    adata.uns["iroot"] = int(adata.obs_names.get_loc(root))
    dbx.tl.dpt(adata)
    dbx.tl.pseudotime(adata)
    for name, settings in FATES.items():
        dbx.tl.fate_probabilities(adata, ends, key_added=name, **settings)
    dbx.tl.soft_kmeans(adata, 8)
    dbx.tl.phate(adata, use_rep="X_pca")
    dbx.tl.archetypes(adata, 4)
    dbx.pp.magic(adata, layer="linear", use_rep="X_pca")


def velocities(adata: ad.AnnData, root: str, ends: dict[str, list[str]]) -> None:
    """Moments, velocities and what follows from them, in place."""
    del ends
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=30)
    dbx.pp.neighbors(adata, n_neighbors=30)
    dbx.pp.moments(adata)
    for mode in ("steady_state", "stochastic"):
        dbx.tl.velocity(adata, mode=mode, vkey=mode)
    dbx.tl.velocity_graph(adata, vkey="stochastic")
    dbx.tl.velocity_pseudotime(adata, vkey="stochastic", root_key=root)
    dbx.tl.velocity_embedding(adata, basis="pca", vkey="stochastic")
    dbx.tl.velocity_confidence(adata, vkey="stochastic")
    dbx.tl.recover_dynamics(adata)
    dbx.tl.velocity(adata, mode="dynamical", vkey="dynamical")
    dbx.tl.velocity_graph(adata, vkey="dynamical")
    dbx.tl.latent_time(adata, vkey="dynamical", root_key=root)


def doublets(adata: ad.AnnData, root: str, ends: dict[str, list[str]]) -> None:
    """Scores of doublets, in place."""
    del root, ends
    dbx.pp.scrublet(adata, random_state=0)


def rows(
    set_name: str, joint: ad.AnnData, mapped: ad.AnnData, reference: ad.AnnData, two: list[ad.AnnData], truth: dict
) -> Iterator[str]:
    """A line for each result of a set: what is compared, mapped cells, the reference's own, two joint runs."""
    for slot, measure in MEASURES.items():
        field, key = slot.split("/")
        if key in getattr(reference, field):
            found = []
            first = two[0][mapped.obs_names]
            for all_cells, cells in ((joint, mapped), (joint, reference), (two[1], first)):
                a, b = (_array(getattr(x, field)[key]) for x in (all_cells[cells.obs_names], cells))
                at = joint.obs_names.get_indexer(cells.obs_names)
                found.append(measure(a, b) + _errors(a, b, {name: value[at] for name, value in truth.items()}))
            yield f"| {set_name} | {key} | {' | '.join(found)} |"


def _array(values) -> np.ndarray:
    values = values.toarray() if sparse.issparse(values) else np.asarray(values)
    return values.astype(np.float64)


def _rank(a: np.ndarray, b: np.ndarray) -> str:
    fine = np.isfinite(a) & np.isfinite(b)
    return f"Spearman {spearmanr(a[fine], b[fine])[0]:.4f}" + (f" ({(~fine).sum()} without)" if (~fine).any() else "")


def _columns(a: np.ndarray, b: np.ndarray) -> str:
    """Each component's correlation, signs apart."""
    found = [abs(np.corrcoef(x, y)[0, 1]) for x, y in zip(a.T[1:], b.T[1:], strict=True)]
    return "components' r " + " ".join(f"{r:.3f}" for r in found[:9])


def _apart(a: np.ndarray, b: np.ndarray) -> str:
    """Correlation of the distances between cells."""
    return f"distances' r {np.corrcoef(pdist(a), pdist(b))[0, 1]:.4f}"


def _close(a: np.ndarray, b: np.ndarray) -> str:
    return f"mean difference {np.nanmean(np.abs(a - b)):.4f}"


def _genes(a: np.ndarray, b: np.ndarray) -> str:
    """Median over the genes of both of the correlation over cells."""
    known = np.isfinite(a).all(axis=0) & np.isfinite(b).all(axis=0)
    a, b = a[:, known], b[:, known]
    some = (a.std(axis=0) > 0) & (b.std(axis=0) > 0)
    found = [np.corrcoef(x, y)[0, 1] for x, y in zip(a[:, some].T, b[:, some].T, strict=True)]
    return f"genes' median r {np.nanmedian(found):.4f}"


def _directions(a: np.ndarray, b: np.ndarray) -> str:
    dot = (a * b).sum(1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-12)
    return f"median cosine {np.nanmedian(dot):.4f}"


def _partition(a: np.ndarray, b: np.ndarray) -> str:
    """Agreement of the most probable clusters."""
    from sklearn.metrics import adjusted_rand_score

    return f"adjusted Rand index {adjusted_rand_score(a.argmax(1), b.argmax(1)):.4f}"


def _matched(a: np.ndarray, b: np.ndarray) -> str:
    """Correlation of the weights, each archetype with that of the other run that it is most like."""
    from scipy.optimize import linear_sum_assignment

    found = np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]
    rows, columns = linear_sum_assignment(-found)
    return f"archetypes' r {found[rows, columns].min():.4f} at least"


def _errors(a: np.ndarray, b: np.ndarray, truth: dict) -> str:
    """The same two beside the truth, where that is known."""
    if "committor" in truth and a.shape == truth["committor"].shape:
        joint, mapped = (np.nanmean(np.abs(x - truth["committor"])) for x in (a, b))
        return f", error {mapped:.4f} ({joint:.4f})"
    if "velocity" in truth and a.shape == truth["velocity"].shape and (a < 0).any():
        joint, mapped = (
            _directions(truth["velocity"] * truth["scale"], np.nan_to_num(x) * truth["scale"]) for x in (a, b)
        )
        return f", with the true velocity: {mapped} ({joint})"
    return ""


MEASURES: dict[str, Callable[[np.ndarray, np.ndarray], str]] = {
    "obsm/X_diffmap": _columns,
    **{f"obs/{key}": _rank for key in TIMES},
    **{f"obsm/lineages_{key}": _close for key in FATES},
    "obsm/soft_kmeans_probabilities": _partition,
    "obsm/X_phate": _apart,
    "obsm/X_archetypes": _matched,
    "layers/magic": _genes,
    "obs/doublet_score": _rank,
    "layers/Ms": _genes,
    "layers/Mu": _genes,
    "layers/steady_state": _genes,
    "layers/stochastic": _genes,
    "layers/fit_t": _genes,
    "layers/dynamical": _genes,
    "obs/latent_time": _rank,
    "obs/stochastic_pseudotime": _rank,
    "obsm/stochastic_pca": _directions,
    "obs/stochastic_confidence": _rank,
}


def same_bits(reference: ad.AnnData, counts: ad.AnnData, which: np.ndarray) -> list[str]:
    """Results that differ from the stored ones when some of the reference's own cells are mapped onto it."""
    mapped = counts[which].copy()
    dbx.rerun(mapped, reference=reference)
    kept = reference[mapped.obs_names]
    found = []
    for slot in MEASURES:
        field, key = slot.split("/")
        if key not in getattr(reference, field):
            continue
        a, b = (_array(getattr(x, field)[key]) for x in (kept, mapped))
        if not np.array_equal(a, b, equal_nan=True):
            off = np.nanmax(np.abs(a - b)) / np.nanmax(np.abs(a[np.isfinite(a)]))
            found.append(f"{key} ({off:.0e})")
    return found


def load(folder: str, name: str) -> tuple[ad.AnnData, str, dict[str, list[str]], dict, Callable]:
    """(counts, root, ends, truth, steps) of a set."""
    sys.path.insert(0, folder)
    if name == "chcl":
        adata = importlib.import_module("score_doublet").load(name)[0]
        adata.obs_names_make_unique()
        return adata, adata.obs_names[0], {}, {}, doublets
    if name in ("varied", "branch", "equal", "low"):
        adata, truth = importlib.import_module("score_velocity").load(name)
        s = truth["true_s"]
        scale = np.broadcast_to(1 / np.maximum(s.std(0), 0.3 * s.mean(0)), s.shape)
        known = {"velocity": truth["velocity"], "scale": scale}
        return adata, adata.obs_names[truth["latent_time"].argmin()], {}, known, velocities
    adata, root, ends, truth = importlib.import_module("score_trajectory").load(name)
    named = {end: list(adata.obs_names[cells]) for end, cells in ends.items()}
    known = {key: truth[key] for key in ("committor",) if key in truth}
    return adata, adata.obs_names[root], named, known, trajectory


def main(folder: str, *names: str) -> None:
    """Print the lines of the sets."""
    for name in names or ("sim3", "paul15", "varied", "chcl"):
        counts, root, ends, truth, steps = load(folder, name)
        shown = np.isin(counts.obs_names, [root, *itertools.chain(*ends.values())])
        half = shown | (np.random.default_rng(0).random(counts.n_obs) < 0.5)
        joint, reference, mapped = counts.copy(), counts[half].copy(), counts[~half].copy()
        for cells in (joint, reference):
            steps(cells, root, ends)
        dbx.rerun(mapped, reference=reference)
        parts = np.array_split(np.random.default_rng(0).permutation(np.flatnonzero(half & ~shown)), 2)
        two = [counts[np.sort(np.concatenate([np.flatnonzero(~half | shown), part]))].copy() for part in parts]
        for cells in two:
            steps(cells, root, ends)
        for line in rows(name, joint, mapped, reference, two, truth):
            print(line, flush=True)
        here = np.flatnonzero(half)
        for what, which in (("all", here), ("every third", here[::3])):
            off = ", ".join(same_bits(reference, counts, which)) or "same bits"
            print(f"| {name} | reference cells, {what} | {off} |")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(*sys.argv[1:])
