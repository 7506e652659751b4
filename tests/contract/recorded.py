"""An example as a recorded program: any slots will do, as long as each output has one."""

from __future__ import annotations

from functools import cache
from typing import Any

import anndata as ad

from contract.cells import GRAPH, N_GENES, N_NEIGHBORS
from contract.example import Example, as_tuple, fitted, fitted_cells
from dbx.ops.graph.neighbors import Neighbors
from dbx.ops.values import Codes, Edges, Frame, Graph, GroupTable
from dbx.program.record.outputs import views
from dbx.program.record.run import run_step
from dbx.program.slots.slots import Slot, exists, read


def place(example: Example, name: str, value: Any) -> str:
    """A slot for an output."""
    output = example.cls.outputs[name]
    if isinstance(value, Graph | Edges):
        return f"obsp/new_{name}"
    if output.axis == "none" or isinstance(value, GroupTable | Frame):
        return f"uns/new/{name}"
    flat = isinstance(value, Codes) or value.ndim == 1
    if output.axis == "genes":
        return f"var/new_{name}" if flat else f"varm/new_{name}"
    if flat:
        return f"obs/new_{name}"
    of_genes = value.shape[1] == N_GENES and output.content != "embedding"
    return f"layers/new_{name}" if of_genes else f"obsm/new_{name}"


def writes(example: Example) -> dict[str, str]:
    """Output -> slot of every output that the example has."""
    made = fitted(example)
    outputs = {**made.outputs(), **views(made.operator)}
    return {name: place(example, name, value) for name, value in outputs.items() if value is not None}


def needs_graph(example: Example) -> bool:
    return any(GRAPH in as_tuple(slots) for slots in example.reads.values())


def record(example: Example, data: ad.AnnData, **reads: str) -> None:
    """Run the example as a step, after the neighbours it needs; ``reads`` are other slots for its inputs."""
    if needs_graph(example):
        run_step(
            data,
            Neighbors(n_neighbors=N_NEIGHBORS),
            reads={"x": "obsm/embedding"},
            writes={"distances": "obsp/graph_distances", "connectivities": GRAPH},
        )
    run_step(data, example.make(), reads={**example.reads, **reads}, writes=writes(example), name="step")


@cache
def _recorded(example: Example) -> ad.AnnData:
    data = fitted_cells()
    record(example, data)
    return data


def recorded(example: Example) -> ad.AnnData:
    """The fitted cells with the example recorded as "step", a copy of one's own."""
    return _recorded(example).copy()


def stored(example: Example, data: ad.AnnData, *, cells: bool | None = None) -> dict[str, Any]:
    """Output -> what is in its slot: of all, only of those computed for cells, or only of views."""
    outputs = example.cls.outputs
    kept = {name: slot for name, slot in writes(example).items() if cells is None or cells is not outputs[name].view}
    return {name: read(data, _of_new(data, Slot.parse(slot))) for name, slot in kept.items()}


def _of_new(data: ad.AnnData, slot: Slot) -> Slot:
    """Where a graph is: of new cells, whose edges lead to the reference, it is in ``obsm``."""
    to_reference = Slot("obsm", (f"reference_{slot.key}",))
    return to_reference if slot.container == "obsp" and exists(data, to_reference) else slot
