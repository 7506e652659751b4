"""Parametric UMAP trained with ``dbx.losses.Compactness``: clusters in the plane, and what the layout loses by them.

    python -m benchmarks.graphs.layout SCORER [guo,sim3,paul15] [--splits 5] [--cells 1000] [--anchor 200]

``SCORER`` as in :mod:`benchmarks.graphs.through`. Half of the cells are the reference: 20 components, neighbours,
Leiden clusters and a parametric layout, which is then trained. The other half is mapped by ``dbx.rerun`` before and
after. A line for each set: compactness of the clusters in the plane (fraction of the variance within them; the other
half gets the cluster most frequent among its five nearest neighbours in components) and trustworthiness of the plane
against the components, both of the other half.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import warnings
from pathlib import Path

import numpy as np
from sklearn.manifold import trustworthiness
from sklearn.neighbors import KNeighborsClassifier

import dbx
from dbx.losses import Compactness, compactness


def main() -> None:
    """Print a line for each split and set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("sets", nargs="?", default="guo,sim3,paul15")
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--anchor", type=float, default=200.0, help="of dbx.optimize: how near parameters stay")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    dbx.settings.verbosity = "error"
    sys.path.insert(0, str(asked.scorer.parent))
    spec = importlib.util.spec_from_file_location("scorer", asked.scorer)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in asked.sets.split(","):
        found = np.array(
            [compared(module.load(name)[0], asked.cells, split, asked.anchor) for split in range(asked.splits)]
        )
        for split, (a, b, c, d, kept) in enumerate(found):
            print(f"{name} {split}: within {a:.3f} -> {b:.3f}, trust {c:.3f} -> {d:.3f}, kept {bool(kept)}", flush=True)
        within, trust = found[:, 1] - found[:, 0], found[:, 3] - found[:, 2]
        means = " | ".join(f"{x:.3f}" for x in found.mean(axis=0)[:4])
        print(
            f"| {name} | {means} | {within.mean():+.3f} +- {within.std(ddof=1):.3f} | {trust.min():+.4f} |", flush=True
        )


def compared(cells, n_cells: int, split: int, anchor: float) -> tuple[float, float, float, float, bool]:
    """Of the other half, before and after: variance within clusters, trustworthiness; whether it was kept."""
    order = np.random.default_rng(split).permutation(cells.n_obs)[:n_cells]
    reference, others = (cells[np.sort(x)].copy() for x in np.array_split(order, 2))
    if cells.uns["kind"] == "counts":
        dbx.pp.normalize_total(reference)
        dbx.pp.log1p(reference)
    dbx.pp.pca(reference, n_comps=min(20, cells.n_vars // 2))
    dbx.pp.neighbors(reference, use_rep="X_pca")
    dbx.tl.leiden(reference)
    dbx.tl.umap(reference, method="parametric")
    loss = Compactness("leiden", slot="obsm/X_umap")
    trained = dbx.optimize(reference, loss, train=["parametric_umap"], anchor=anchor, random_state=split, copy=True)
    groups = KNeighborsClassifier(5).fit(reference.obsm["X_pca"], reference.obs["leiden"].cat.codes)
    planes = []
    for program in (reference, trained):
        mapped = others.copy()
        mapped.obs_names = [f"other {cell}" for cell in mapped.obs_names]
        dbx.rerun(mapped, reference=program, steps=["parametric_umap"])
        planes.append(np.asarray(mapped.obsm["X_umap"]))
    codes = groups.predict(mapped.obsm["X_pca"]).astype(np.int32)
    within = [float(np.mean(compactness(plane, codes))) for plane in planes]
    trust = [float(trustworthiness(mapped.obsm["X_pca"], plane, n_neighbors=15)) for plane in planes]
    return *within, *trust, bool(trained.uns["optimize"]["kept"].all())


if __name__ == "__main__":
    main()
