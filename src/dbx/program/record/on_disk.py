"""A step that changes a matrix of backed data in its file, by blocks of cells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.data.kinds import is_backed, is_sparse_on_disk
from dbx.ops.operator import Operator
from dbx.program import log
from dbx.program.record.commit import commit
from dbx.program.record.holes import warn_of_holes
from dbx.program.record.inputs import gather
from dbx.program.record.recording import new_step
from dbx.program.record.registry import load
from dbx.program.record.rewriting import Rewriting, parts_of, stored_values
from dbx.program.slots.slots import Slot, holder, read
from dbx.program.slots.writing import check_writable

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
    writes: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
    n_rows: int | None = None,
    each_value_alone: bool = False,
    mod: str | None = None,
) -> None:
    """Change a matrix in its file, ``n_rows`` rows at a time, and record the step.

    The operator must map each row alone, keep zero at zero, and return the matrix as ``x``; ``writes`` are the slots of
    its other outputs. New values are written beside the old ones and replace them at the end, so that a call that
    fails or is interrupted changes nothing.

    Raises
    ------
    NotImplementedError
        The file is open for reading, or a sparse matrix has several values in one place or, unless the operator maps
        ``each_value_alone``, is stored by genes.
    """
    slot = Slot.parse(slot, mod)
    matrix = read(data, slot)
    _check_changeable(holder(data, slot), matrix, slot, each_value_alone=each_value_alone)
    besides = {Slot.parse(address, mod): value for address, value in (constants or {}).items()}
    others = {name: Slot.parse(address, mod) for name, address in (writes or {}).items()}
    check_writable(data, [*others.values(), *besides])
    registry = load(data)
    given = gather(data, registry, operator, {"x": str(slot)}, constants=besides)
    warn_of_holes(operator.name, given.reads, maps_cells=True)
    with log.timed(f"computing {operator.name}"), Rewriting(matrix) as new:
        operator.fit(**given.fit)
        outputs: dict[str, list[np.ndarray]] = {name: [] for name in others}
        for place, part in parts_of(matrix, n_rows, slot.written(), each_value_alone=each_value_alone):
            found = operator(x=part)
            new.put(place, found["x"])
            for name, blocks in outputs.items():
                blocks.append(np.asarray(found[name]))
        values = {others[name]: np.concatenate(blocks) for name, blocks in outputs.items()}
        step = new_step(
            data,
            registry,
            operator,
            reads=given.reads,
            writes={"x": slot, **others},
            values=values,
            outside=given.outside,
            n_cells=given.n_cells,
            genes=given.genes,
            constants=besides,
        )
        registry.record(step)
        commit(data, registry, {**values, **besides}, new.replace)


def _check_changeable(owner: AnnData, matrix, slot: Slot, *, each_value_alone: bool) -> None:
    where, load_it = f"{slot.written()} is in the file {owner.filename}", "load it: adata = adata.to_memory()."
    if stored_values(matrix).file.mode != "r+":
        msg = (
            f"{where}, which is open for reading. To change it there, open it, or a copy of it, by "
            f"anndata.read_h5ad(path, backed='r+'); or {load_it}"
        )
        raise NotImplementedError(msg)
    if is_sparse_on_disk(matrix) and matrix.format != "csr" and not each_value_alone:
        msg = f"{where}, stored by genes ({matrix.format.upper()}), so that cells are not read alone there: {load_it}"
        raise NotImplementedError(msg)
