"""``dbx.tl.archetypes`` beside the package ``archetypes`` on simulated corners, and new cells beside a joint run.

    python -m benchmarks.graphs.archetypes [python of an environment with archetypes 0.12.2]

prints CPU seconds of the first and of a later call in one process (imports excluded, dbx from 5 starts, the package
from 1), explained variance, the mean distance of the corners found to the true ones over that between true corners,
and for one half mapped onto the other the correlation of weights and memberships with those of a run on all cells.
"""

from __future__ import annotations

import json
import sys
import warnings

import numpy as np
from benchmarks.graphs.calls import columns, in_process, timed

SETS = {
    "4 corners, 1,000 x 20": {"n": 1000, "d": 20, "k": 4, "sharpness": 0.7, "noise": 0.1, "seed": 0},
    "6 corners, 3,000 x 30": {"n": 3000, "d": 30, "k": 6, "sharpness": 0.4, "noise": 0.3, "seed": 1},
}


def simulated(n: int, d: int, k: int, sharpness: float, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in the simplex of normal corners, with noise; and the corners."""
    rng = np.random.default_rng(seed)
    corners = rng.normal(0, 1, (k, d))
    weights = rng.dirichlet(np.full(k, sharpness), n)
    return (weights @ corners + noise * rng.normal(size=(n, d))).astype(np.float32), corners


def package(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Archetypes and weights by the package."""
    from archetypes import AA

    model = AA(n_archetypes=k, method="nnls", init="furthest_sum", random_state=0)
    weights = model.fit_transform(x.astype(float))
    return model.archetypes_, weights


def ours(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Archetypes and weights by dbx."""
    import anndata as ad

    import dbx

    adata = ad.AnnData(x)
    dbx.tl.archetypes(adata, k, use_rep="X")
    return adata.uns["archetypes"]["archetypes"], adata.obsm["X_archetypes"]


def measure(tool: str, name: str) -> dict[str, float]:
    """CPU seconds of two calls and the quality of the second."""
    warnings.simplefilter("ignore")
    from scipy.optimize import linear_sum_assignment
    from scipy.spatial.distance import cdist

    if tool == "dbx":
        import anndata  # noqa: F401

        import dbx

        dbx.tl.archetypes  # noqa: B018  # imports it
    else:
        import archetypes  # noqa: F401
    x, corners = simulated(**SETS[name])
    fit, results = ours if tool == "dbx" else package, []
    seconds = timed(lambda number: results.append(fit(x, len(corners))))
    found, weights = results[-1]
    apart, pairs = cdist(found, corners), cdist(corners, corners)[np.triu_indices(len(corners), 1)]
    error = apart[linear_sum_assignment(apart)].mean() / pairs.mean()
    explained = 1 - ((x - weights @ found) ** 2).sum() / ((x - x.mean(axis=0)) ** 2).sum()
    return {**seconds, "explained": float(explained), "error": float(error)}


def halves(name: str) -> dict[str, float]:
    """One half mapped onto the other: correlations with the joint run, over matched columns."""
    import anndata as ad
    from scipy.optimize import linear_sum_assignment

    import dbx

    x, corners = simulated(**SETS[name])
    half = np.random.default_rng(0).permutation(len(x)) < len(x) // 2
    joint, reference, query = (ad.AnnData(values) for values in (x, x[half], x[~half]))
    for data in (joint, reference):
        dbx.tl.archetypes(data, len(corners), use_rep="X")
        dbx.tl.soft_kmeans(data, len(corners), use_rep="X")
    dbx.rerun(query, reference=reference)
    found = {}
    for key in ("X_archetypes", "soft_kmeans_probabilities"):
        n = len(corners)
        both = np.corrcoef(query.obsm[key].T, joint[~half].obsm[key].T)[:n, n:]
        found[key] = float(both[linear_sum_assignment(-both)].mean())
    return found


def main(peer: str | None = None) -> None:
    """Print a line for each set."""
    for name in SETS:
        pythons = {"dbx": sys.executable, "archetypes": peer}
        found = {tool: in_process("archetypes", python, tool, name) for tool, python in pythons.items() if python}
        quality = "; ".join(f"{tool} {v['explained']:.4f}, {v['error']:.4f}" for tool, v in found.items())
        mapped = ", ".join(f"{key} {value:.4f}" for key, value in halves(name).items())
        line = f"| {name} | {columns(found, 'archetypes', 2)} | explained, error: {quality} | mapped half: {mapped} |"
        print(line, flush=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        print(json.dumps(measure(*sys.argv[2:])))
    else:
        main(*sys.argv[1:])
