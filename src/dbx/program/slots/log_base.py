"""The base of logarithms, as ``log1p`` recorded it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.program.slots.slots import Slot, exists, read

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def log_base(data: AnnData | MuData, mod: str | None) -> float | None:
    """Base of the logarithms in ``uns["log1p"]``; None for natural ones, and where nothing is recorded."""
    slot = Slot.parse("uns/log1p/base", mod)
    base = read(data, slot) if exists(data, slot) else None
    try:
        return None if base is None else float(base)
    except (TypeError, ValueError):
        msg = (
            f"{slot.written()} must be the base of the logarithms, a number, or None for natural ones; got {base!r}: "
            f"put it right, or remove {Slot('uns', ('log1p',), mod).written()}."
        )
        raise ValueError(msg) from None
