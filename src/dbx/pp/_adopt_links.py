"""One function of a chain that may have changed a matrix: its operator, and the columns of cells that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.operator import Operator
from dbx.program.record.step import Read
from dbx.program.replay.adopt import Adoption
from dbx.program.slots.kinds import KINDS, Request, Value
from dbx.program.slots.slots import Slot


@dataclass
class Link:
    """One function of the chain that made the change."""

    operator: Operator
    columns: tuple[str, ...] = ()
    """Columns of obs that it reads."""

    @property
    def port(self) -> str:
        """The input that these columns are."""
        return next(name for name in self.operator.inputs if name != "x")


def columns_read(adoption: Adoption, link: Link) -> Read:
    """What a step that is such a link reads of obs."""
    slots = tuple(Slot("obs", (column,)) for column in link.columns)
    sources = [adoption.read_of(slot)[0].source for slot in slots]
    request = _request(adoption.adata, link)
    kind = KINDS[request.port.kind]
    return Read(
        slots=slots,
        source=max((source for source in sources if source is not None), default=None),
        levels=kind.levels(kind.read(request), request),
    )


def _request(adata, link: Link) -> Request:
    return Request(
        step=link.operator.name,
        port=link.operator.inputs[link.port],
        slots=tuple(Slot("obs", (column,)) for column in link.columns),
        values=tuple(Value(adata.obs[column]) for column in link.columns),
    )


def applied(adata, link: Link, values: Any) -> Any | None:
    """The values after a link, fitted on those before it; None where it refuses them."""
    blocks = RowBlocks(values, dtype=np.float32)
    inputs: dict[str, Any] = {"x": blocks}
    try:
        if link.columns:
            request = _request(adata, link)
            inputs[link.port] = KINDS[request.port.kind].read(request)
        link.operator.fit(**inputs)
        return apply(link.operator, inputs, blocks.n_rows)["x"]
    except ValueError:
        return None
