"""New cells in one AnnData or in a MuData, and a reference in the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from dbx.program import log
from dbx.program.record.modalities import lowered
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.slots.genes import some_of
from dbx.program.slots.slots import owner_written


def like_the_query(data, reference, registry: Registry) -> tuple[Any, Registry]:
    """The reference and its program as they fit the new cells: of one AnnData one modality of a MuData.

    Raises
    ------
    ValueError
        The new cells are a MuData and the reference is not, or no modality is the one that was measured.
    """
    parts, given = getattr(reference, "mod", None), getattr(data, "mod", None)
    if parts is None and given is not None:
        mod = next(iter(given))
        msg = (
            "The new cells are a MuData, but the reference is one AnnData: pass the modality that was measured like "
            f"the reference, such as {owner_written(mod)}."
        )
        raise ValueError(msg)
    if parts is None or given is not None:
        return reference, registry
    programs = lowered(registry)
    joint = programs.pop(None, [])
    mod = _measured(data, programs)
    if mod is None:
        raise ValueError(_which(reference, registry))
    others = [step.name for name, steps in programs.items() if name != mod for step in steps if step.maps_cells()]
    left = [*others, *(step.name for step in joint if step.maps_cells())]
    if left:
        log.warn(f"The new cells are taken as modality {mod!r} of the reference; steps left out: {some_of(left)}.")
    return parts[mod], Registry(programs[mod])


def _measured(data, programs: dict[str | None, list[Step]]) -> str | None:
    """The modality whose genes the new cells have; of one modality alone, it."""
    if len(programs) < 2:
        return next(iter(programs), None)
    shares = {mod: _share(data.var_names, steps) for mod, steps in programs.items()}
    best = max(shares, key=lambda mod: shares[mod])
    return best if shares[best] > 0 and list(shares.values()).count(shares[best]) == 1 else None


def _share(names: pd.Index, steps: Sequence[Step]) -> float:
    genes = {gene for step in steps if step.genes is not None for gene in step.genes}
    return float(pd.Index(sorted(genes)).isin(names).mean()) if genes else 0.0


def _which(reference, registry: Registry) -> str:
    named = list(dict.fromkeys(step.mod for step in registry if step.mod is not None)) or list(reference.mod)
    wrapped = ", ".join(f'"{mod}": adata' for mod in named[:1]) + "".join(f', "{mod}": ...' for mod in named[1:])
    return (
        f"The reference is a MuData, whose steps read the modalities {', '.join(map(repr, named))}, but the new "
        f"cells are one AnnData: pass mudata.MuData({{{wrapped}}}), or one modality as the reference: "
        f"reference=mdata[{named[0]!r}]."
    )
