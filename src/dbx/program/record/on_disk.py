"""A step that changes each number of a matrix by itself, done in the file that holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.data.blocks import block_rows
from dbx.data.kinds import is_backed, is_sparse_on_disk
from dbx.ops.operator import Operator
from dbx.program.record.commit import commit
from dbx.program.record.inputs import gather
from dbx.program.record.recording import new_step
from dbx.program.record.registry import load
from dbx.program.slots.slots import Slot, holder, read

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def is_on_disk(data: AnnData | MuData, slot: str, mod: str | None = None) -> bool:
    """Whether a matrix of backed data is in its file."""
    slot = Slot.parse(slot, mod)
    return bool(getattr(holder(data, slot), "isbacked", False)) and is_backed(read(data, slot))


def run_on_disk(
    data: AnnData | MuData,
    operator: Operator,
    slot: str,
    *,
    constants: Mapping[str, Any],
    n_rows: int | None = None,
    mod: str | None = None,
) -> None:
    """Change a matrix in its file, ``n_rows`` rows at a time, and record the step.

    The operator must map each number alone and keep zero at zero. Unlike elsewhere, a run that is interrupted leaves
    part of the file changed.

    Raises
    ------
    NotImplementedError
        The file is open for reading, or it holds whole numbers.
    """
    slot = Slot.parse(slot, mod)
    matrix = read(data, slot)
    _check_changeable(holder(data, slot), matrix, slot)
    besides = {Slot.parse(address, mod): value for address, value in constants.items()}
    registry = load(data)
    given = gather(data, registry, operator, {"x": str(slot)}, constants=besides)
    operator.fit(**given.fit)
    stored = matrix.group["data"] if is_sparse_on_disk(matrix) else matrix
    for rows in _pieces(stored, matrix.shape[0], n_rows):
        values = np.asarray(stored[rows])
        stored[rows] = operator(x=values.reshape(len(values), -1))["x"].reshape(values.shape)
    step = new_step(
        data,
        registry,
        operator,
        reads=given.reads,
        writes={"x": slot},
        values={},
        outside=given.outside,
        n_cells=given.n_cells,
        genes=given.genes,
        constants=besides,
    )
    registry.record(step)
    commit(data, registry, besides)


def _check_changeable(owner: AnnData, matrix, slot: Slot) -> None:
    where, load_it = f"{slot.written()} is in the file {owner.filename}", "Load it instead: adata = adata.to_memory()."
    if owner.file._filemode != "r+":
        msg = f"{where}, which is open for reading. Open it by anndata.read_h5ad(path, backed='r+'). {load_it}"
        raise NotImplementedError(msg)
    if matrix.dtype.kind != "f":
        msg = f"{where} as {matrix.dtype}, which holds no fractions. {load_it}"
        raise NotImplementedError(msg)


def _pieces(stored, n_cells: int, n_rows: int | None) -> Iterator[slice]:
    """Slices of a dense matrix, or of a sparse one's values: about as many as so many rows have."""
    width = len(stored) * int(np.prod(stored.shape[1:])) // max(n_cells, 1)
    size = (n_rows or block_rows(n_cells, width, stored.dtype.itemsize)) * len(stored) // max(n_cells, 1)
    for start in range(0, len(stored), max(size, 1)):
        yield slice(start, min(start + max(size, 1), len(stored)))
