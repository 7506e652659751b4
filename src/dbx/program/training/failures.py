"""Why a training cannot start or stopped: values or gradients that are not finite, found before any parameter moved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.program.training.objective import BLOCK, Part, PipelineLoss, judge
from dbx.program.training.trainable import Moved, Trainable


def check_start(before: Mapping[str, np.ndarray], parts: tuple[Part, ...], columns: Mapping[str, Any]) -> None:
    """Refuse objectives that are not finite before training.

    Raises
    ------
    ValueError
        Some cell has NaN or an infinite value.
    """
    for part in parts:
        wrong = ~np.isfinite(before[part.name])
        if wrong.any():
            msg = (
                f"The objective {part.name!r} is not finite for {int(wrong.sum())} of {len(wrong)} cells before any "
                f"training, at the {part.slot} that there is. {_cause(part, columns)}"
            )
            raise ValueError(msg)


def explain(error: FloatingPointError, model: Trainable, judged: PipelineLoss, columns, rows: np.ndarray) -> None:
    """Say what else than the training itself made it diverge; ``model`` is as it was before, ``rows`` trained on.

    Raises
    ------
    ValueError
        The objective of some cell, or its gradient, is not finite before any parameter has moved.
    """
    check_start(judge(model, judged, columns, rows), judged.parts, columns)
    if not _gradient_is_finite(model, judged, columns, rows):
        names = ", ".join(repr(part.name) for part in judged.parts)
        msg = (
            f"The gradient of {names} is not finite before any training, though its values are: square roots, norms "
            "and absolute powers have none at 0. Add a small number below the root, jnp.sqrt(x + 1e-12)."
        )
        raise ValueError(msg) from error


def _cause(part: Part, columns: Mapping[str, Any]) -> str:
    """What to look at where an objective is not finite."""
    for name, place in part.reads.items():
        value = columns.get(place)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f" and not np.isfinite(value).all():
            return f"{name} has missing or infinite values: fill them, or drop these cells (subset=...)."
    return "Look for logarithms or roots of negative numbers, and for divisions by zero."


def _gradient_is_finite(model: Trainable, judged: PipelineLoss, columns, rows: np.ndarray) -> bool:
    here = rows[:BLOCK]
    batch = {name: jnp.asarray(x.dense(here) if isinstance(x, RowBlocks) else x[here]) for name, x in columns.items()}
    graphdef, *states = nnx.split(model, nnx.Any(nnx.Param, Moved), ...)
    moved, rest = states

    @jax.jit
    def gradient(moved):
        return jax.grad(lambda m: judged(nnx.merge(graphdef, m, rest), batch, None, anchor=0.0)[0].mean())(moved)

    return all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(gradient(moved)))
