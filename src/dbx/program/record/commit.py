"""Write computed values together with the program, all or nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbx._version import __version__
from dbx.program import compat, log
from dbx.program.record.registry import KEY, Registry
from dbx.program.slots.slots import Slot
from dbx.program.slots.writing import assign, check_writable

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def commit(data: AnnData | MuData, registry: Registry, values: Mapping[Slot, Any]) -> None:
    """Write computed values and the registry, all or nothing."""
    check_writable(data, [*values, Slot("uns", (KEY,))])
    if compat.is_view(data):
        log.warn("Received a view of an AnnData. Making a copy.")
        compat.to_actual(data)
    assign(data, {**values, Slot("uns", (KEY,)): registry.to_uns(__version__)})
    if values:
        log.hint("added\n" + "\n".join(f"    {slot.written()}" for slot in values))
