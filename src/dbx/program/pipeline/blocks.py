"""Blocks of cells with their neighbours: how training passes a step that works on a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from dbx.ops.operator import Operator, Reference


def renew(operator: Operator, inputs: Mapping[str, Any], rows: Any) -> None:
    """Replace what a transductive operator keeps of these cells from its input by their present values.

    Where all cells are present, what it keeps of their neighbourhoods is brought up to date, too.
    """
    for attribute, port in operator.references.items():
        # the barrier keeps the compiler from working on all of it beforehand, as it does on constants
        kept = jax.lax.optimization_barrier(jax.tree.map(jnp.asarray, getattr(operator, attribute).get_value()))
        if port in inputs:
            kept = kept.at[rows].set(inputs[port].astype(kept.dtype))
        setattr(operator, attribute, Reference(kept))
    moved = [getattr(operator, name)[...] for name, port in operator.references.items() if port in inputs]
    if moved and len(rows) >= len(moved[0]):
        operator.refresh()


def first_rows(value: Any, n_cells: int) -> Any:
    """The first cells of an array, codes or a graph."""
    return jax.tree.map(lambda leaf: leaf[:n_cells], value)
