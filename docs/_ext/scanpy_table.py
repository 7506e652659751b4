"""The table of scanpy.md, made from the namespaces of the installed scanpy and of dbx."""

from __future__ import annotations

import sys
from operator import attrgetter
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective
from steps_table import classes_of, how, mapping

import dbx
from dbx._scanpys import INSTEAD, public_names, scanpys_module
from dbx.ops.catalogue import CATALOGUE

OUTSIDE = "a step from outside: new cells can go up to the step that reads what it wrote"
CONCLUDED = "not at all: what it writes is about the reference's cells"
NOTHING = "nothing to do: it computes nothing that a step reads"
NAMESPACES = {
    "pp": OUTSIDE,
    "tl": CONCLUDED,
    "external.pp": OUTSIDE,
    "external.tl": CONCLUDED,
    "experimental.pp": OUTSIDE,
    "get": NOTHING,
    "pl": NOTHING,
    "datasets": NOTHING,
}
"""Namespace of scanpy -> what a function that dbx lacks means for new cells."""


def functions() -> list[str]:
    """Every public function of these namespaces of the installed scanpy."""
    return [f"{namespace}.{name}" for namespace in NAMESPACES for name in public_names(scanpys_module(namespace))]


def of_dbx(function: str) -> Any:
    """The function of dbx under this name, None if it is scanpy's own or dbx has none."""
    try:
        found = attrgetter(function)(dbx)
    except AttributeError:
        return None
    return found if found.__module__.startswith("dbx.") else None


def row(function: str) -> list[str]:
    """A function, whose it is, and what happens to new cells."""
    own = of_dbx(function)
    if own is None:
        namespace = function.rpartition(".")[0]
        advice = f"; for new cells {{func}}`dbx.{INSTEAD[function]}`" if function in INSTEAD else ""
        return [f"`sc.{function}`", "scanpy's", NAMESPACES[namespace] + advice]
    shortest = own.__module__.rpartition(".")[0] + "." + own.__name__
    return [f"`sc.{function}`", f"{{func}}`{shortest}`", new_cells(own)]


def new_cells(function: Any) -> str:
    """How rerun treats new cells in a step of dbx."""
    operators = [operator for operator in CATALOGUE.values() if operator in classes_of(function)]
    operators += [operator for name, operator in CATALOGUE.items() if name == function.__name__]
    if operators:
        return f"{mapping(operators[0])}: {how(operators[0])}"
    notes = getattr(sys.modules[function.__module__], "NEW_CELLS", None)
    return notes or NOTHING


class ScanpyTable(SphinxDirective):
    def run(self) -> list[nodes.Node]:
        table = [["function", "use", "new cells"], ["---"] * 3, *map(row, functions())]
        return self.parse_text_to_nodes("\n".join(f"| {' | '.join(cells)} |" for cells in table))


def setup(app):
    app.add_directive("scanpy-table", ScanpyTable)
    return {"parallel_read_safe": True}
