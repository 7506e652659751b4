"""An example of an operator: its settings and which slots of the shared cells feed its inputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import anndata as ad
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from scipy import sparse

from contract.cells import N_FITTED, cells, graph
from dbx.data import RowBlocks
from dbx.data.text import as_bytes
from dbx.ops.apply import apply, take
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import Input, Operator
from dbx.ops.ragged import RaggedGraph
from dbx.ops.values import Codes, Edges, Graph


@dataclass(frozen=True, kw_only=True, eq=False)
class Example:
    """One use of an operator that its promises are tried on. Slots are those of :func:`contract.cells.cells`."""

    operator: str
    """Its name in the catalogue."""
    reads: Mapping[str, str | tuple[str, ...]]
    """Input -> slot, or slots of columns; optional inputs that are not here are left out."""
    config: Mapping[str, Any] = field(default_factory=dict)
    title: str = ""
    """What is special about it, where an operator has several."""
    random: bool = False
    """Another seed gives another state."""
    differentiable: bool = True
    """False where ``check_differentiable`` refuses, as there is no gradient."""
    surrogates: frozenset[str] = frozenset()
    """Parameters whose gradient is a declared surrogate of the derivative, which the operator's own tests compare."""
    idle: Mapping[str, str] = field(default_factory=dict)
    """Parameter (or what its name starts with) -> why moving it changes neither the outputs nor the loss.

    Input -> why other values of it change nothing.
    """
    lacks: frozenset[str] = frozenset()
    """Declared outputs that it does not have with these settings."""
    infinite: frozenset[str] = frozenset()
    """Outputs that are infinite or missing for some cells: no path leads to them in the graph of all examples, which
    has parts, or they have no later time."""
    asks: tuple[Mapping[str, Any], ...] = ()
    """Settings that the fit does not depend on, to be changed after it."""

    def __str__(self) -> str:
        return f"{self.operator}-{self.title}" if self.title else self.operator

    @property
    def cls(self) -> type[Operator]:
        return CATALOGUE[self.operator].declared(self.config)

    @property
    def maps_cells(self) -> bool:
        """Whether the operator computes anything for cells here."""
        return any(not output.view and name not in self.lacks for name, output in self.cls.outputs.items())

    @property
    def of_genes(self) -> bool:
        return any(self.cls.inputs[name].genes for name in self.reads)

    @property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """Input -> the slots of ``obs`` that feed it."""
        slots = {name: (slot,) if isinstance(slot, str) else slot for name, slot in self.reads.items()}
        return {name: some for name, some in slots.items() if self.cls.inputs[name].kind in ("codes", "columns")}

    def make(self) -> Operator:
        return self.cls(**self.config)


@dataclass
class Fitted:
    """A fitted operator with the inputs it was fitted on and is called with."""

    example: Example
    operator: Operator
    fit: dict[str, Any]
    call: dict[str, Any]
    n_cells: int = N_FITTED

    def outputs(self, call: dict[str, Any] | None = None, n_cells: int | None = None) -> dict[str, Any]:
        return apply(self.operator, self.call if call is None else call, n_cells or self.n_cells)


def inputs_of(example: Example, data: ad.AnnData, *, new: bool = False, wrap: Callable | None = None) -> dict[str, Any]:
    """What the operator is called with; ``wrap`` makes gene matrices of another kind."""
    rows = np.full(data.n_obs, -1, np.int32) if new else np.arange(data.n_obs, dtype=np.int32)
    found: dict[str, Any] = {name: rows for name, port in example.cls.inputs.items() if port.kind == "rows"}
    for name, slots in example.reads.items():
        port = example.cls.inputs[name]
        if port.kind == "graph":
            found[name] = Edges(graph(new=new), rows)
        elif port.kind == "text":
            found[name] = as_bytes(data.obs[slots.split("/")[1]])
        elif port.kind == "tensor":
            found[name] = np.asarray(value_at(data, slots))
        elif port.kind == "matrix":
            found[name] = blocks(example, port, value_at(data, slots), wrap)
        else:
            columns = {slot.split("/")[1]: column(data.obs[slot.split("/")[1]], port) for slot in as_tuple(slots)}
            found[name] = columns if port.kind == "columns" else next(iter(columns.values()))
    return found


def as_tuple(slots: str | tuple[str, ...]) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else slots


def value_at(data: ad.AnnData, slot: str) -> Any:
    container, _, key = slot.partition("/")
    return data.X if container == "X" else getattr(data, container)[key]


def blocks(example: Example, port: Input, value: Any, wrap: Callable | None) -> RowBlocks:
    wide = example.make().precision == "float64"
    return RowBlocks(wrap(value) if wrap and port.genes else value, dtype=np.float64 if wide else np.float32)


def column(values: pd.Series, port: Input) -> Codes | np.ndarray:
    """Categories against their levels, -1 where there is none; measurements as they are."""
    if values.dtype.kind == "f" and not port.discrete and port.kind != "codes":
        return values.to_numpy(np.float64)
    values = values.astype("category")
    return Codes(values.cat.codes.to_numpy(np.int32), tuple(map(str, values.cat.categories)))


def fitted_cells() -> ad.AnnData:
    return cells()[:N_FITTED].copy()


def new_cells() -> ad.AnnData:
    return cells()[N_FITTED:].copy()


def fit(example: Example, *, data: ad.AnnData | None = None, seed: int = 0, wrap: Callable | None = None) -> Fitted:
    """Fit the operator on the fitted cells, or on others."""
    call = inputs_of(example, fitted_cells() if data is None else data, wrap=wrap)
    made = Fitted(example, example.make(), for_fit(call), call)
    made.operator.fit(**made.fit, seed=seed)
    return made


def for_fit(call: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.matrix if isinstance(value, Edges) else value for name, value in call.items()}


@cache
def fitted(example: Example) -> Fitted:
    """The fitted example, once a session, in ordinary precision whoever asks first; nobody changes it."""
    with jax.enable_x64(False):
        return fit(example)


def new_call(example: Example, data: ad.AnnData | None = None) -> dict[str, Any]:
    """What the operator is called with for the new cells."""
    return inputs_of(example, new_cells() if data is None else data, new=True)


def precise(example: Example):
    """Where it is called in the precision that it declares."""
    return jax.enable_x64(True) if example.make().precision == "float64" else contextlib.nullcontext()


def on_device(call: Mapping[str, Any]) -> dict[str, Any]:
    """What ``__call__`` takes, for all cells at once."""

    def one(value):
        if isinstance(value, RowBlocks):
            return jnp.asarray(value.dense())
        return jax.tree.map(jnp.asarray, value.block(slice(None)) if isinstance(value, Edges) else value)

    return {name: one(value) for name, value in call.items()}


def rows_of(value: Any, index: Any) -> Any:
    """Some rows of what an operator is called with."""
    return Edges(value.matrix[index], value.rows[index]) if isinstance(value, Edges) else take(value, index)


def taken(value: Any, index: Any) -> Any:
    """Rows of an output in a form that does not depend on how a graph is padded."""
    if isinstance(value, RaggedGraph):
        value = value.to_csr()
    if isinstance(value, Graph):
        value = sparse.csr_matrix(replace(value, symmetric=False).to_csr())
    value = value.matrix if isinstance(value, Edges) else value
    return value[index] if sparse.issparse(value) else take(value, index)
