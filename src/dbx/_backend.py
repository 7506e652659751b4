"""dbx under scanpy's ``scanpy.backends`` entry point: ``sc.pp.pca(adata, backend="dbx")``.

The host reads ``name`` and ``aliases`` and looks up functions by scanpy's names; each is imported when it is asked for.
"""

from __future__ import annotations

from importlib import import_module

name = "dbx"
aliases: tuple[str, ...] = ()

FUNCTIONS = {
    "calculate_qc_metrics": "pp",
    "combat": "pp",
    "downsample_counts": "pp",
    "filter_cells": "pp",
    "filter_genes": "pp",
    "harmony_integrate": "pp",
    "highly_variable_genes": "pp",
    "log1p": "pp",
    "neighbors": "pp",
    "normalize_total": "pp",
    "pca": "pp",
    "recipe_seurat": "pp",
    "recipe_zheng17": "pp",
    "regress_out": "pp",
    "sample": "pp",
    "scale": "pp",
    "scrublet": "pp",
    "scrublet_simulate_doublets": "pp",
    "sqrt": "pp",
    "subsample": "pp",
    "dendrogram": "tl",
    "diffmap": "tl",
    "dpt": "tl",
    "draw_graph": "tl",
    "embedding_density": "tl",
    "ingest": "tl",
    "leiden": "tl",
    "paga": "tl",
    "rank_genes_groups": "tl",
    "score_genes": "tl",
    "score_genes_cell_cycle": "tl",
    "tsne": "tl",
    "umap": "tl",
}
__all__ = sorted(FUNCTIONS)


def __getattr__(function: str):
    if function not in FUNCTIONS:
        msg = f"The dbx backend has no function {function!r}; it has: {', '.join(__all__)}."
        raise AttributeError(msg)
    return getattr(import_module(f"dbx.{FUNCTIONS[function]}"), function)


def __dir__() -> list[str]:
    return ["aliases", "name", *__all__]
