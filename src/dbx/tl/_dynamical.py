"""Velocities by the kinetics of genes, and how sure their direction is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dbx.ops.checks import check_number
from dbx.ops.dynamics.dynamical_velocity import DynamicalVelocity
from dbx.program import Slot, log, neighbors_slot, read, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

MANY = 0.5
"""Share of genes that speak against the direction from which on there is a warning."""


def likelihoods(data: AnnData | MuData, min_likelihood: float | None, mod: str | None) -> tuple[np.ndarray, np.ndarray]:
    """Likelihood of each gene's kinetics, and the one below which they do not count: not below that of a constant."""
    if min_likelihood is not None:
        check_number(min_likelihood, "min_likelihood")
    found, constant = (fitted(data, name, mod) for name in ("likelihood", "constant_likelihood"))
    return found, np.maximum(constant, 0.0 if min_likelihood is None else min_likelihood)


def fitted(data: AnnData | MuData, name: str, mod: str | None) -> np.ndarray:
    """What :func:`dbx.tl.recover_dynamics` wrote of each gene, an array of shape (n_genes,)."""
    return np.asarray(read(data, Slot("var", (f"fit_{name}",), mod)), float)


def dynamical(
    data: AnnData | MuData,
    vkey: str,
    *,
    min_likelihood: float | None,
    min_r2: float | None,
    neighbors_key: str | None,
    seed: int,
    copy: bool,
    mod: str | None,
) -> AnnData | MuData | None:
    """:func:`dbx.tl.velocity` with ``mode="dynamical"``."""
    read(data, Slot("layers", ("fit_velocity",), mod))
    likelihood, least = likelihoods(data, min_likelihood, mod)
    chosen = likelihood > least
    if min_r2 is not None:
        check_number(min_r2, "min_r2")
        chosen &= fitted(data, "r2", mod) > min_r2
    direction = _direction(*(fitted(data, name, mod)[chosen] for name in ("direction", "agreement")))
    done = run_step(
        data,
        DynamicalVelocity(genes=tuple(map(int, np.flatnonzero(chosen)))),
        reads={
            "speed": "layers/fit_velocity",
            "graph": neighbors_slot(data, "connectivities", neighbors_key, mod=mod),
        },
        writes={"velocity": f"layers/{vkey}", "velocity_genes": f"var/{vkey}_genes"},
        constants={f"uns/{vkey}_params": {"mode": "dynamical"}, f"uns/{vkey}/direction": direction},
        name=vkey,
        seed=seed,
        copy=copy,
        mod=mod,
    )
    if max(direction["better_swapped"], direction["against_others"]) > MANY:
        log.warn(
            "The direction of these velocities is doubtful: with induction and repression exchanged, "
            f"{direction['better_swapped']:.0%} of the genes would be likelier, and "
            f"{direction['against_others']:.0%} move against the others."
        )
    return done


def _direction(loss: np.ndarray, agreement: np.ndarray) -> dict[str, float]:
    if not len(loss):
        return {"swapping_loses": np.nan, "better_swapped": 0.0, "against_others": 0.0}
    return {
        "swapping_loses": float(np.median(loss)),
        "better_swapped": float((loss < 0).mean()),
        "against_others": float((agreement < 0).mean()),
    }
