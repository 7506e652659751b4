"""What is compared: one row for each step, the same input and the same settings for both tools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LEIDEN = {"flavor": "igraph", "n_iterations": 2, "directed": False, "random_state": 0}


def _harmonypy(adata) -> None:
    import harmonypy

    fitted = harmonypy.run_harmony(
        adata.obsm["X_pca"], adata.obs, "batch", theta=2.0, lamb=1.0, sigma=0.1, max_iter_harmony=10, verbose=False
    )
    corrected = fitted.Z_corr
    adata.obsm["X_pca_harmony"] = corrected if corrected.shape[0] == adata.n_obs else corrected.T


@dataclass(frozen=True)
class Step:
    """A function of both tools, by its name in them."""

    name: str
    input: str
    """The stage of the analysis it starts from (see ``inputs.py``)."""
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    peer: Callable | None = None
    """The tool to compare with where it is not scanpy."""
    counted: bool = True
    """Part of the sum over the workflow."""


STEPS = [
    Step("calculate_qc_metrics", "counts", "pp.calculate_qc_metrics", {"inplace": True}),
    Step("filter_cells, by counts", "counts", "pp.filter_cells", {"min_counts": 150}),
    Step("filter_cells, by genes", "counts", "pp.filter_cells", {"min_genes": 130}),
    Step("filter_genes, by counts", "counts", "pp.filter_genes", {"min_counts": 20}),
    Step("filter_genes, by cells", "counts", "pp.filter_genes", {"min_cells": 20}),
    Step("normalize_total", "counts", "pp.normalize_total", {"target_sum": 1e4}),
    Step("log1p", "normalized", "pp.log1p"),
    Step("highly_variable_genes, seurat", "log", "pp.highly_variable_genes", {"n_top_genes": 1000}),
    Step(
        "highly_variable_genes, seurat_v3",
        "counts",
        "pp.highly_variable_genes",
        {"n_top_genes": 1000, "flavor": "seurat_v3"},
    ),
    Step("scale", "log", "pp.scale", {"max_value": 10}),
    Step("pca", "log", "pp.pca", {"n_comps": 50}),
    Step("harmony (harmonypy)", "pca", "tl.harmony", {"key": "batch"}, peer=_harmonypy),
    Step("neighbors", "pca", "pp.neighbors", {"use_rep": "X_pca"}),
    Step("umap", "neighbors", "tl.umap"),
    Step("leiden (same library)", "neighbors", "tl.leiden", LEIDEN, counted=False),
    Step("rank_genes_groups, t-test", "log", "tl.rank_genes_groups", {"groupby": "group", "method": "t-test"}),
    Step("rank_genes_groups, wilcoxon", "log", "tl.rank_genes_groups", {"groupby": "group", "method": "wilcoxon"}),
]


def find(tool: str, step: Step) -> Callable | None:
    """The function of a step in a tool, looked up by name; None where the tool has none."""
    if tool == "scanpy" and step.peer is not None:
        return step.peer
    found = __import__(tool)
    for part in step.function.split("."):
        found = getattr(found, part, None)
    return found and (lambda adata: found(adata, **step.arguments))


def call(tool: str, step: Step, adata: Any) -> None:
    """Find the function and call it, so that what it imports when it is first looked up is measured, too."""
    find(tool, step)(adata)
