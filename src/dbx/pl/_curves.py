"""Training histories in one form, whatever form an operator keeps its own in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dbx.ops.values import Frame

HELD_OUT = "validation_"
"""Prefix of the curves of held-out cells."""
EPOCH = "epoch"
"""Beside the curves, where not every epoch has a value: those that have."""


def curves_of(history: Mapping[str, Any] | Frame) -> dict[str, np.ndarray]:
    """Term -> values by epoch; terms of phases have the name of their phase in front.

    What is no curve, such as the verdict on a phase, and what was not computed are left out.
    """
    if isinstance(history, Frame):
        named = {f"{HELD_OUT}loss" if name == "held_out" else name: x for name, x in history.columns.items()}
        return {name: np.asarray(values) for name, values in named.items()}
    found: dict[str, np.ndarray] = {}
    for name, values in history.items():
        if isinstance(values, Mapping):
            found |= {_of_phase(name, term): curve for term, curve in curves_of(values).items()}
        elif np.ndim(values) == 1 and np.asarray(values).dtype.kind in "if":
            found[name] = np.asarray(values)
    return {name: curve for name, curve in found.items() if curve.size and not np.isnan(curve).all()}


def _of_phase(phase: str, term: str) -> str:
    held_out = HELD_OUT if term.startswith(HELD_OUT) else ""
    return f"{held_out}{phase}_{term.removeprefix(HELD_OUT)}"
