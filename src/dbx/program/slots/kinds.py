"""Kinds of inputs: what each is in slots, for ``fit``, for ``__call__`` and on the wires of a pipeline.

A new kind is a class here and a row of :data:`KINDS`. What it passes to ``__call__`` by blocks of cells is an array, a
pytree of arrays, or a host value with ``block(index)`` (see :class:`dbx.ops.values.HostValue`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.text import as_bytes
from dbx.ops.operator import Input, Output
from dbx.ops.ragged import RaggedGraph
from dbx.ops.values import Codes, Edges, Graph
from dbx.program.slots.column_names import column_order
from dbx.program.slots.columns import all_codes, column_value, is_measured, recoded
from dbx.program.slots.genes import gene_columns, renaming_hint, some_of
from dbx.program.slots.slots import Slot


@dataclass
class Value:
    """A version of a slot: its value, and the names of its columns where they are genes."""

    value: Any
    genes: pd.Index | None = None
    rows: np.ndarray | None = None
    """For a graph: each cell's own row in the reference."""
    columns: tuple[str, ...] | None = None
    """Names of the columns of a matrix in ``obsm``; None without names."""


def leading(value: Value, first: int | None) -> Value:
    """A value with its first columns only, or as it is for None."""
    if first is None:
        return value
    names = None if value.columns is None else value.columns[:first]
    return Value(value.value[:, :first], value.genes, value.rows, names)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a step asks of the slots that feed one of its inputs."""

    step: str
    """The step's name, for messages."""
    port: Input
    slots: tuple[Slot, ...]
    values: tuple[Value, ...]
    dtype: type = np.float32
    genes: np.ndarray | pd.Index | list[str] | None = None
    """Names of the genes wanted, in their order; None for all."""
    missing_genes: str = "raise"
    wanted: tuple[str, ...] | None = None
    """Names of the columns wanted of a matrix in ``obsm``, in their order; None where they have no names."""
    made: bool = False
    """A step of the program made the value just now, in the order of the fit."""
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Levels at the fit by column; a column that is not here is read for the first time."""

    @property
    def columns(self) -> dict[str, Value]:
        """Name of each column -> its value."""
        return dict(zip((slot.keys[-1] for slot in self.slots), self.values, strict=True))


class Kind:
    """One kind of input; ``read`` makes of slots what ``__call__`` takes, all else has a usual answer."""

    from_slots = True
    """It is read from slots; otherwise the program itself supplies it."""
    by_cell = True
    """A minibatch of cells is some of its rows."""
    numeric = False
    """A gradient can be taken in it."""
    has_content = False
    """It may hold counts, logarithms, ..., which is checked."""

    def read(self, request: Request) -> Any:
        """The host value that ``__call__`` takes by blocks of cells."""
        raise NotImplementedError

    def match(self, value: Any, request: Request) -> Any:
        """The same with the genes that are wanted."""
        return value

    def for_fit(self, value: Any) -> Any:
        """The host value as ``fit`` takes it."""
        return value

    def levels(self, value: Any, request: Request) -> dict[str, tuple[str, ...]]:
        """Column -> levels, for categorical columns."""
        return {}

    def connect(self, request: Request) -> Any:
        """Device values of slots as ``__call__`` takes them: pure, for the wires of a pipeline."""
        return request.values[0].value

    def root(self, request: Request) -> Any:
        """The host value that a pipeline starts from, for the one slot of the request."""
        return self.match(self.read(request), request)

    def kept(self, request: Request) -> Any:
        """A stored value as an operator keeps it of its reference cells."""
        return self.root(request)


class Matrix(Kind):
    """Rows of numbers; columns may be genes, which are found by name."""

    numeric = True
    has_content = True

    def read(self, request: Request) -> RowBlocks:
        value = request.values[0].value
        return RowBlocks(value.to_numpy() if isinstance(value, pd.DataFrame) else value, dtype=request.dtype)

    def match(self, value: RowBlocks, request: Request) -> RowBlocks:
        if request.wanted is not None and not request.made:
            present, slot = request.values[0].columns, request.slots[0]
            order = column_order(value, present, request.wanted, slot, request.step, counted=request.port.counted)
            return value if order is None else value.select(order)
        present = request.values[0].genes
        if request.genes is None or present is None:
            return value
        least = request.port.least_known
        columns = gene_columns(present, request.genes, request.step, request.missing_genes, least)
        return value if columns is None else value.select(columns)

    def connect(self, request: Request) -> Any:
        value, present = request.values[0].value, request.values[0].genes
        if request.genes is None or present is None or list(present) == list(request.genes):
            return value
        columns = pd.Index(present).get_indexer(request.genes)
        missing = np.asarray(request.genes)[columns < 0]
        if len(missing):
            some = f"{some_of(missing)} ({len(missing)})"
            hint = renaming_hint(missing, present)
            msg = f"Step {request.step!r} needs genes that {request.slots[0]} lacks: {some}. {hint}"
            raise ValueError(msg.rstrip())
        return value[:, columns]

    def kept(self, request: Request) -> np.ndarray:
        blocks = self.root(request)
        dtype = blocks.source.dtype
        return RowBlocks(blocks, dtype=dtype if dtype.kind == "f" else request.dtype).dense()


class Tensor(Kind):
    """An array of any number of dimensions, such as one-hot sequences; whole numbers stay whole."""

    numeric = True

    def read(self, request: Request) -> np.ndarray:
        value, slot = request.values[0].value, request.slots[0]
        value = value.to_numpy() if isinstance(value, pd.DataFrame) else value
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
            msg = f"{slot.written()} must be an array of numbers for {request.step}; got {type(value).__name__}."
            raise TypeError(msg)
        return value.astype(np.int32 if value.dtype.kind in "biu" else request.dtype, copy=False)


class Texts(Kind):
    """One column of texts, as ASCII codes padded with zeros."""

    def read(self, request: Request) -> np.ndarray:
        column, slot = request.values[0].value, request.slots[0]
        if isinstance(column, np.ndarray) and column.dtype == np.int8 and column.ndim == 2:
            return column
        missing = np.flatnonzero(pd.isna(column))
        if len(missing):
            msg = (
                f"{slot.written()} has no text in {len(missing)} rows (the first is row {missing[0]}): remove them "
                f"first, adata = adata[{slot.written()}.notna()].copy()."
            )
            raise ValueError(msg)
        texts = pd.Series(column).astype(object)
        wrong = next((value for value in texts if not isinstance(value, str)), None)
        if wrong is not None:
            msg = f"{slot.written()} must be text for {request.step}; got {wrong!r}."
            raise TypeError(msg)
        return as_bytes(texts)

    def root(self, request: Request) -> np.ndarray:
        return self.read(request)


class Neighbourhood(Kind):
    """A graph of cells, with the row that each has among the reference cells."""

    by_cell = False

    def read(self, request: Request) -> Edges:
        found = request.values[0]
        matrix = sparse.csr_matrix(found.value)
        matrix.sort_indices()
        rows = np.arange(matrix.shape[0], dtype=np.int32) if found.rows is None else found.rows
        return Edges(matrix, rows)

    def for_fit(self, value: Edges) -> sparse.csr_matrix:
        return value.matrix

    def root(self, request: Request) -> Edges:
        matrix = self.read(request).matrix
        return Edges(
            matrix, -2 - np.arange(matrix.shape[0], dtype=np.int32)
        )  # each cell placed as a new one among the others

    def kept(self, request: Request) -> Graph | RaggedGraph:
        edges = self.read(request)
        return Graph.from_csr(edges.matrix, rows=edges.rows)


class RaggedNeighbourhood(Neighbourhood):
    """A graph of cells some of which may have many times as many edges as most."""

    def kept(self, request: Request) -> RaggedGraph:
        return RaggedGraph.from_csr(self.read(request).matrix)


class Categories(Kind):
    """One categorical column."""

    def read(self, request: Request) -> Codes:
        return cast(Codes, next(iter(_columns(request).values())))

    def levels(self, value: Codes, request: Request) -> dict[str, tuple[str, ...]]:
        return {next(iter(request.columns)): value.levels}

    def root(self, request: Request) -> Codes | np.ndarray:
        return _root_column(request)

    def kept(self, request: Request) -> Codes:
        return all_codes(request.values[0].value)


class Columns(Kind):
    """Several columns by name, categorical ones and measurements."""

    def read(self, request: Request) -> dict[str, Codes | np.ndarray]:
        return _columns(request)

    def levels(self, value: Mapping[str, Any], request: Request) -> dict[str, tuple[str, ...]]:
        return {name: column.levels for name, column in value.items() if isinstance(column, Codes)}

    def connect(self, request: Request) -> dict[str, Any]:
        return {name: found.value for name, found in request.columns.items()}

    def root(self, request: Request) -> Codes | np.ndarray:
        return _root_column(request)

    def kept(self, request: Request) -> Codes | np.ndarray:
        value = request.values[0].value
        return np.asarray(value, np.float64) if is_measured(value) else all_codes(value)


class Numbers(Kind):
    """One column of measurements, as an operator keeps what it wrote of its reference cells."""

    from_slots = False

    def kept(self, request: Request) -> np.ndarray:
        value = np.asarray(request.values[0].value)
        return value if value.dtype.kind in "iu" else value.astype(request.dtype)


class Rows(Kind):
    """Each cell's row among the fitted cells, -1 for a cell that is not one of them."""

    from_slots = False
    by_cell = False


KINDS: dict[str, Kind] = {
    "matrix": Matrix(),
    "graph": Neighbourhood(),
    "codes": Categories(),
    "columns": Columns(),
    "rows": Rows(),
    "text": Texts(),
    "tensor": Tensor(),
}


def stored_kind(slot: Slot, declared: Input | Output) -> Kind:
    """The kind of what a slot stores, which is declared as this input or output."""
    dtype = declared.dtype if isinstance(declared, Output) else None
    if slot.container == "obsp":
        return RaggedNeighbourhood() if declared.ragged else KINDS["graph"]
    if slot.container == "obs" and dtype is not None and dtype.startswith(("float", "int")):
        return Numbers()
    if slot.container == "obs":
        return KINDS["columns"]
    return KINDS["codes" if dtype == "category" else "matrix"]


def _columns(request: Request) -> dict[str, Codes | np.ndarray]:
    columns: dict[str, Codes | np.ndarray] = {}
    for slot, found in zip(request.slots, request.values, strict=True):
        name, column = slot.keys[-1], found.value
        if isinstance(column, Codes):
            columns[name] = column
            continue
        columns[name] = column_value(column, slot, request.step, request.port)  # refuses missing values
        if name in request.levels:
            columns[name] = recoded(column, slot, request.step, request.port, request.levels[name])
    return columns


def _root_column(request: Request) -> Codes | np.ndarray:
    """A column against the levels of the fit, unknown ones -1; a number where it had none."""
    (name, found), *_ = request.columns.items()
    if name in request.levels:
        return found.value if isinstance(found.value, Codes) else all_codes(found.value, request.levels[name])
    return np.asarray(found.value, np.float32)
