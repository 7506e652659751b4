"""Functions of scanpy's as steps: what they conclude about the cells they were run on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Input, Operator, Output, Progress, Reference, Text, silent, text_of
from dbx.ops.values import Codes
from dbx.program import Slot, SlotError, read, representation_slot, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


class Scanpy(Operator):
    """A function of scanpy's, run on an AnnData that has only what is recorded as read.

    Its results are conclusions about these cells: they are repeated with ``refit=True``, and not computed for others.
    """

    name = "scanpy_function"
    inputs: ClassVar[Mapping[str, Input]] = {}
    outputs: ClassVar[Mapping[str, Output]] = {}
    precision = "float64"

    def __init__(
        self,
        *,
        function: str,
        settings: str = "{}",
        reads: tuple[str, ...] = (),
        writes: tuple[str, ...] = (),
        uns: str = "{}",
    ):
        """A configuration.

        Parameters
        ----------
        function
            Its name in scanpy, such as ``"tl.paga"``.
        settings
            Its arguments as JSON.
        reads, writes
            Slots by the names under which the function knows them.
        uns
            Entries of ``uns`` that it needs, as JSON.
        """
        self.function, self.settings, self.reads, self.writes, self.uns = function, settings, reads, writes, uns

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[Operator]:
        return _declared(tuple(config.get("reads", ())), tuple(config.get("writes", ())))

    @classmethod
    def listed(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in json.loads(config.get("settings", "{}")).items() if value is not None}

    @property
    def references(self) -> dict[str, str]:
        return {f"cells_{i}": port(slot) for i, slot in enumerate(self.writes) if Slot.parse(slot).axis == "cells"}

    def fit(self, *, seed: int = 0, progress: Progress = silent, **inputs: Any) -> None:
        """Run the function on the inputs."""
        cells = self._cells(inputs)
        attrgetter(self.function)(import_module("scanpy"))(cells, **json.loads(self.settings))
        for i, slot in enumerate(self.writes):
            value = read(cells, Slot.parse(slot))
            if port(slot) in self.references.values():
                setattr(self, f"cells_{i}", Reference(np.asarray(value)))
            else:
                setattr(self, f"found_{i}", Text(json.dumps(_as_json(value))))

    def __getattr__(self, name: str) -> Any:
        """What was found, by the names of outputs."""
        for i, slot in enumerate(self.__dict__.get("writes", ())):
            if name == port(slot) and f"cells_{i}" in self.__dict__:
                return np.asarray(self.__dict__[f"cells_{i}"].get_value())
            if name == port(slot) and f"found_{i}" in self.__dict__:
                return json.loads(text_of(self.__dict__[f"found_{i}"]), object_hook=_from_json)
        msg = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise AttributeError(msg)

    def _cells(self, inputs: Mapping[str, Any]) -> AnnData:
        """An AnnData with what is read, and nothing else."""
        values = {Slot.parse(slot): _host(inputs[port(slot)]) for slot in self.reads}
        matrix = next((value for slot, value in values.items() if slot.is_gene_matrix), None)
        n_cells = next(value.shape[0] if hasattr(value, "shape") else len(value) for value in values.values())
        names = pd.Index([str(i) for i in range(n_cells)])
        n_genes = MANY_GENES if matrix is None else matrix.shape[1]
        cells = anndata.AnnData(
            matrix, obs=pd.DataFrame(index=names), var=pd.DataFrame(index=[str(i) for i in range(n_genes)])
        )
        for slot, value in values.items():
            if not slot.is_gene_matrix:
                getattr(cells, slot.container)[slot.key] = value
        cells.uns.update(json.loads(self.uns, object_hook=_from_json))
        return cells


MANY_GENES = 51
"""So many that scanpy looks for components instead of the matrix, where none is given."""


def conclude(
    data: AnnData | MuData,
    function: str,
    settings: Mapping[str, Any],
    *,
    reads: Sequence[str] | Mapping[str, str],
    writes: Sequence[str],
    uns: Mapping[str, Any] | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Run a function of scanpy's on slots, write what it writes, and record it.

    ``reads`` are slots, or a mapping from the slots under which the function looks for its inputs to where they are.
    """
    places = dict(reads) if isinstance(reads, Mapping) else {slot: slot for slot in reads}
    config = {
        "function": function,
        "settings": json.dumps(dict(settings)),
        "reads": tuple(places),
        "writes": tuple(writes),
        "uns": json.dumps(_plain(uns or {})),
    }
    return run_step(
        data,
        Scanpy.declared(config)(**config),
        reads={port(slot): place for slot, place in places.items()},
        writes={port(slot): slot for slot in writes},
        name=function.rpartition(".")[2],
        copy=copy,
        mod=mod,
    )


def representation(
    adata: AnnData | MuData, use_rep: str | None, n_pcs: int | None, mod: str | None = None
) -> dict[str, str]:
    """The slot under which scanpy looks for the representation -> where it is.

    Raises
    ------
    SlotError
        There is no such representation, or no components.
    """
    slot, _ = representation_slot(adata, use_rep, n_pcs, mod=mod)
    if slot is None:
        where = Slot("obsm", ("X_pca",), mod).written()
        msg = f"{where} is missing. Make it with dbx.pp.pca(adata), or name what to use: use_rep='X'."
        raise SlotError(msg)
    return {slot if slot == "X" or use_rep is not None else "obsm/X_pca": slot}


def port(slot: str) -> str:
    """The name of the input or output that a slot is."""
    return slot.replace("/", ".")


@cache
def _declared(reads: tuple[str, ...], writes: tuple[str, ...]) -> type[Operator]:
    """The class with these inputs and outputs."""
    inputs = {port(slot): _input(Slot.parse(slot)) for slot in reads}
    axes: dict[str, Any] = {port(slot): Slot.parse(slot).axis for slot in writes}
    outputs = {name: Output(axis=axis, dtype=None, view=True, inference=True) for name, axis in axes.items()}
    body = {"inputs": inputs, "outputs": outputs, "__module__": __name__, "__qualname__": Scanpy.__qualname__}
    return type(Scanpy.__name__, (Scanpy,), body)


def _input(slot: Slot) -> Input:
    if slot.container == "obsp":
        return Input(kind="graph")
    return Input(kind="codes") if slot.container == "obs" else Input(genes=slot.is_gene_matrix)


def _host(value: Any) -> Any:
    """An input as AnnData keeps it; matrices in their own type of number."""
    if isinstance(value, RowBlocks):
        dtype = value.source.dtype
        return RowBlocks(value, dtype=dtype if dtype.kind == "f" else np.float32).dense()
    if isinstance(value, Codes):
        return pd.Categorical.from_codes(np.asarray(value.codes), categories=list(value.levels))
    return value


def _as_json(value: Any) -> Any:
    """A result as JSON can keep it: arrays and CSR matrices with their types."""
    if sparse.issparse(value):
        value = sparse.csr_matrix(value)
        return {"csr": [_as_json(part) for part in (value.data, value.indices, value.indptr)], "shape": value.shape}
    if isinstance(value, Mapping):
        return {str(key): _as_json(part) for key, part in value.items()}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, list | tuple):
        return [_as_json(part) for part in value]
    return value.item() if isinstance(value, np.generic) else value


def _from_json(value: dict[str, Any]) -> Any:
    if value.keys() == {"array", "dtype"}:
        return np.asarray(value["array"], value["dtype"])
    if value.keys() == {"csr", "shape"}:
        return sparse.csr_matrix(tuple(value["csr"]), shape=tuple(value["shape"]))
    return value


def _plain(value: Any) -> Any:
    """Entries of ``uns`` that JSON can keep."""
    if isinstance(value, Mapping):
        kept = {str(key): _plain(part) for key, part in value.items()}
        return {key: part for key, part in kept.items() if part is not None}
    if isinstance(value, np.ndarray) or sparse.issparse(value):
        return _as_json(value)
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | int | float | bool) else None
