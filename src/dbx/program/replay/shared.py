"""New cells that carry the reference's program themselves, as other parts of what its first steps were fitted on do."""

from __future__ import annotations

from typing import Any

import numpy as np
from anndata import AnnData

from dbx.program.record.inputs import trace
from dbx.program.record.registry import Registry, load
from dbx.program.record.step import Step
from dbx.program.slots.slots import Slot, exists, read

X = Slot("X")


def shared_writer(data: Any, registry: Registry) -> Step | None:
    """The step of the reference that wrote X of the new cells when it was fitted, None if none did."""
    if not isinstance(data, AnnData) or not exists(data, X):
        return None
    carried = load(data)
    found = trace(data, carried, X, read(data, X))
    theirs, ours = carried.by_id(found.source), registry.by_id(found.source)
    if found.slot != X or theirs is None or ours is None or theirs.name != ours.name:
        return None
    a, b = theirs.fingerprints.get(X), ours.fingerprints.get(X)
    return ours if a is not None and b is not None and np.array_equal(a, b) else None
