"""The tables of steps.md, made from the catalogue of operators."""

from __future__ import annotations

import inspect

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import dbx
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import Operator


def call_of(name: str) -> str:
    """The function that users call for an operator, as a link where it goes by the same name."""
    for module in ("pp", "tl"):
        if name in getattr(dbx, module).__all__:
            return f"{{func}}`dbx.{module}.{name}`"
    return f"`{name}`"


def cell_outputs(operator: type[Operator]) -> bool:
    return any(not output.view for output in operator.outputs.values())


def places_by_reference(operator: type[Operator]) -> bool:
    return bool(operator.references) or any(port.kind in ("graph", "rows") for port in operator.inputs.values())


def mapping(operator: type[Operator]) -> str:
    if not cell_outputs(operator):
        return "not at all"
    if places_by_reference(operator):
        return "into the reference"
    return "directly" if operator.rowwise else "together"


def how(operator: type[Operator]) -> str:
    """The first line of ``__call__``'s docstring: what is done to a new cell."""
    text = inspect.getdoc(operator.__call__) if "__call__" in vars(operator) else None
    return text.splitlines()[0] if text else ""


def exactness(operator: type[Operator]) -> str:
    if not cell_outputs(operator):
        return "kept as it is"
    return "the stored values" if places_by_reference(operator) else "the same bits"


class Table(SphinxDirective):
    """A table with one row for each operator of the catalogue."""

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
        matrices = [port for port in operator.inputs.values() if port.kind == "matrix"]
        if not matrices or not cell_outputs(operator):
            return None
        lazy = operator.rowwise and len(operator.inputs) == 1
        return ["yes" if operator.sparse is True else "", "yes" if lazy else ""]


def setup(app):
    app.add_directive("steps-table", StepsTable)
    app.add_directive("arrays-table", ArraysTable)
    return {"parallel_read_safe": True}
