"""The tables of steps.md, made from the catalogue of operators."""

from __future__ import annotations

import inspect

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import dbx
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import Operator

# What is done to a new cell. An operator without a line here is described by the docstring of its `__call__`.
HOW = {
    "normalize_total": "scaled to the reference's target sum",
    "log1p": "nothing is learnt",
    "highly_variable_genes": "the reference's genes are kept",
    "highly_variable_genes_v3": "flavors seurat_v3 and seurat_v3_paper: the reference's genes are kept",
    "scale": "the reference's means and standard deviations",
    "gene_gate": "the genes chosen on the reference, the others zero",
    "pca": "the reference's means and loadings",
    "vae_normalize": "the trained networks, at the posterior mean; a new batch is fitted and recorded so",
    "harmony": "the reference's clusters and corrections, as Symphony does; a new batch is fitted and recorded so",
    "neighbors": "its nearest reference cells, with weights of the same kernel",
    "umap": "starts between its reference neighbours and is moved by UMAP's objective; they stay where they are",
    "parametric_umap": "`method='parametric'`: the network",
    "leiden": "the cluster that most of its edges' weight goes to, and each cluster's share",
    "rank_genes_groups": "a test of the reference's cells",
    "celltypist": "`method='celltypist'`: the coefficients; fitted cells around it, or in its cluster, vote",
    "scanvi": "`method='scanvi'`: the trained networks, at the posterior mean; labels it has are not used",
    "cellassign": "`method='cellassign'`: the rates of the markers and the shares of the types",
    "solo": "the trained networks, the simulated doublets of the fit, and the stored threshold",
    "remove_ambient": "the profiles and the common share; its own share is fitted from its own counts",
    "mmd": "the trained encoder, which needs no batch",
    "wgan": "the trained encoder, which needs no batch",
    "denoise": "the trained network",
    "label_head": "its coefficients",
    "soft_clusters": "the centroids, variances and shares of the groups",
    "nb_glm": "its size factor, from the reference's genes; the test of genes is not repeated",
    "vst": "its size factor, from the reference's genes; the reference's transformation",
}

CALLS = {
    "parametric_umap": "tl.umap",
    "label_head": "optimize",
    "highly_variable_genes_v3": "pp.highly_variable_genes",
    "nb_glm": "tl.de",
    "celltypist": "tl.annotate",
    "scanvi": "tl.annotate",
    "cellassign": "tl.annotate",
}
SPARSE = {"scale": "with `zero_center=False`"}


def call_of(name: str) -> str:
    """The function that users call for an operator: mostly it has the operator's name."""
    if name in CALLS:
        return f"{{func}}`dbx.{CALLS[name]}`"
    module = next((module for module in ("pp", "tl") if name in getattr(dbx, module).__all__), None)
    return f"{{func}}`dbx.{module}.{name}`" if module else f"`{name}`"


def maps_cells(operator: type[Operator]) -> bool:
    return any(not output.view for output in operator.outputs.values())


def needs_reference(operator: type[Operator]) -> bool:
    return bool(operator.references) or any(port.kind in ("graph", "rows") for port in operator.inputs.values())


def is_test(operator: type[Operator]) -> bool:
    return all(output.inference for output in operator.outputs.values())


def mapping(operator: type[Operator]) -> str:
    if not maps_cells(operator):
        return "not at all" if is_test(operator) else "a selection"
    return "into the reference" if needs_reference(operator) else "directly"


def how(operator: type[Operator]) -> str:
    if operator.name in HOW:
        return HOW[operator.name]
    return (inspect.getdoc(operator.__call__) or "").splitlines()[0]


def exactness(operator: type[Operator]) -> str:
    if is_test(operator):
        return "not repeated"
    return "the stored values" if needs_reference(operator) else "the same bits"


class Table(SphinxDirective):
    """A table with one row for each operator of the catalogue that ``cells`` has something to say of."""

    headings: tuple[str, ...]

    def cells(self, operator: type[Operator]) -> list[str] | None:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        rows = [[call_of(name), *cells] for name, op in CATALOGUE.items() if (cells := self.cells(op)) is not None]
        table = [["step", *self.headings], ["---"] * (1 + len(self.headings)), *rows]
        return self.parse_text_to_nodes("\n".join(f"| {' | '.join(row)} |" for row in table))


class StepsTable(Table):
    headings = ("new cells", "how", "rerun on its own cells gives")

    def cells(self, operator):
        return [mapping(operator), how(operator), exactness(operator)]


class ArraysTable(Table):
    headings = ("sparse stays sparse", "dask stays lazy")

    def cells(self, operator):
        if not any(output.content in ("normalized", "log", "scaled") for output in operator.outputs.values()):
            return None
        required = [port for port in operator.inputs.values() if not port.optional]
        sparse = "yes" if operator.sparse else SPARSE.get(operator.name, "no")
        return [sparse, "yes" if operator.rowwise and len(required) == 1 else "no"]


def setup(app):
    app.add_directive("steps-table", StepsTable)
    app.add_directive("arrays-table", ArraysTable)
    return {"parallel_read_safe": True}
