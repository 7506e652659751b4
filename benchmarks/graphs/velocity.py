"""``dbx.tl.recover_dynamics`` and the velocity graph: CPU seconds of the first and of a later call, and memory.

    python -m benchmarks.graphs.velocity fit [n_cells] [n_genes]
    python -m benchmarks.graphs.velocity graph [n_cells] [n_genes]

Each prints one line of a table; the first call includes all compilation, and memory is above that of the layers.
``scvelo`` beside ``n_genes`` measures scVelo instead, in an environment that has it (0.3.4, with numpy < 2.3 and
pandas < 3).
"""

from __future__ import annotations

import sys
import warnings

import anndata as ad
import numpy as np
from benchmarks.graphs.calls import columns, timed


def moments(n_cells: int, n_genes: int) -> ad.AnnData:
    """Genes that are induced and repressed along one time, with noise, and edges to cells near in time."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.uniform(0, 12, n_cells)).astype(np.float32)[:, None]
    on, length = rng.uniform(-2, 8, n_genes), rng.uniform(2, 6, n_genes)
    top, gamma = rng.uniform(1, 8, n_genes), np.exp(rng.normal(-0.5, 0.4, n_genes))
    layers = {}
    for name, rate in (("Mu", np.ones(n_genes)), ("Ms", 0.5 * gamma)):
        up = 1 - np.exp(-rate * np.clip(t - on, 0, length))
        value = top / rate * up * np.exp(-rate * np.maximum(t - on - length, 0))
        layers[name] = (value * rng.gamma(30, 1 / 30, value.shape)).astype(np.float32)
    adata = ad.AnnData(layers["Ms"], layers=layers)
    adata.obsm["X_pca"] = np.hstack([t, rng.normal(0, 0.1, (n_cells, 9))]).astype(np.float32)
    return adata


def with_edges(adata: ad.AnnData, k: int = 30) -> None:
    """Edges to the nearest cells."""
    from sklearn.neighbors import kneighbors_graph

    graph = kneighbors_graph(adata.obsm["X_pca"], k, mode="distance").astype(np.float32)
    adata.obsp["distances"], adata.obsp["connectivities"] = graph, ((graph + graph.T) > 0).astype(np.float32)
    adata.uns["neighbors"] = {
        "connectivities_key": "connectivities",
        "distances_key": "distances",
        "params": {"n_neighbors": k + 1, "method": "umap"},
    }


def main(what: str = "fit", n_cells: str = "2000", n_genes: str = "2000", tool: str = "dbx") -> None:
    """Print the line."""
    warnings.simplefilter("ignore")
    adata = moments(int(n_cells), int(n_genes))
    with_edges(adata)
    slope = (adata.layers["Mu"] * adata.layers["Ms"]).sum(axis=0) / (adata.layers["Ms"] ** 2).sum(axis=0)
    adata.layers["velocity"], adata.var["velocity_genes"] = adata.layers["Mu"] - slope * adata.layers["Ms"], True
    if tool == "scvelo":
        import scvelo

        def call(data):
            alone = {"n_jobs": 1, "show_progress_bar": False}
            if what == "fit":
                scvelo.tl.recover_dynamics(data, "all", **alone)
            else:
                scvelo.tl.velocity_graph(data, n_recurse_neighbors=2, sqrt_transform=False, **alone)
    else:
        from dbx.tl import recover_dynamics, velocity_graph

        def call(data):
            recover_dynamics(data, "all") if what == "fit" else velocity_graph(data)

    found = timed(lambda number: call(adata))
    print(f"| {what}, {adata.n_obs:,} x {adata.n_vars:,} | {columns({tool: found}, 'scvelo')} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
