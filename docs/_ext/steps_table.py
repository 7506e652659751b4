"""The tables of steps.md, made from the catalogue of operators."""

from __future__ import annotations

import inspect
import re
import sys
from operator import attrgetter

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import dbx
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import Operator


def call_of(name: str) -> str:
    """The function that users call for an operator: of its name, or else the one that imports its class."""
    modules = {module: attrgetter(module)(dbx) for module in ("pp", "tl", "experimental.pp")}
    functions = {f"{module}.{f}": getattr(package, f) for module, package in modules.items() for f in package.__all__}
    found = [call for call in functions if call.rpartition(".")[2] == name]
    found += [call for call, function in functions.items() if CATALOGUE[name] in classes_of(function)]
    if CATALOGUE[name].role == "head":
        found = ["optimize"]
    return f"{{func}}`dbx.{found[0]}`" if found else f"`{name}`"


def classes_of(function) -> list[object]:
    """What the module of a function has imported."""
    return [value for value in vars(sys.modules[function.__module__]).values() if isinstance(value, type)]


def maps_cells(operator: type[Operator]) -> bool:
    return any(not output.view for output in operator.outputs.values())


def needs_reference(operator: type[Operator]) -> bool:
    references = operator.references  # a property of the base class, and where they depend on settings
    keeps = bool(references) and references is not Operator.references
    return keeps or any(port.kind in ("graph", "rows") for port in operator.inputs.values())


def is_test(operator: type[Operator]) -> bool:
    return all(output.inference for output in operator.outputs.values())


def mapping(operator: type[Operator]) -> str:
    if not maps_cells(operator):
        return "not at all" if is_test(operator) else "a selection"
    return "into the reference" if needs_reference(operator) else "directly"


def how(operator: type[Operator]) -> str:
    """What is done to a new cell: the paragraph of the class's docstring that says so."""
    found = re.search(r"^New cells: (.*?)\.(?:\n\n|\Z)", inspect.getdoc(operator) or "", re.DOTALL | re.MULTILINE)
    if found:
        return " ".join(found[1].split()).replace("``", "`")
    if maps_cells(operator):
        msg = f"The docstring of {operator.__name__} needs a paragraph 'New cells: ...' that says how they are mapped."
        raise ValueError(msg)
    return "a test of the reference's cells" if is_test(operator) else "the reference's genes are kept"


def sparse(operator: type[Operator]) -> str:
    """Whether zeros stay zeros, or by which setting they do."""
    if operator.sparse is True:
        return "yes"
    defaults = getattr(operator.__init__, "__kwdefaults__", None) or {}
    flipped = [(name, not value) for name, value in defaults.items() if isinstance(value, bool)]
    settings = [f"`{name}={value}`" for name, value in flipped if operator(**{name: value}).sparse is True]
    return f"with {settings[0]}" if settings else "no"


def exactness(operator: type[Operator]) -> str:
    if is_test(operator):
        return "not repeated"
    return "the stored values" if needs_reference(operator) else "bitwise identical values"


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
        return [sparse(operator), "yes" if operator.rowwise and len(required) == 1 else "no"]


def setup(app):
    app.add_directive("steps-table", StepsTable)
    app.add_directive("arrays-table", ArraysTable)
    return {"parallel_read_safe": True}
