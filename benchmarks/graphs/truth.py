"""Imputed means, layouts, corners, doublets and velocities beside the truth that is known of simulated or mixed cells.

    python -m benchmarks.graphs.truth FOLDER [impute embed archetypes doublets velocity] [--shift 0]

FOLDER holds the scorers with their data: ``score_magic_phate.py``, ``score_doublet.py`` and ``score_velocity.py``.
Prints a line for each set and method with its measures, which the scorers define. ``--shift`` is added to the seed of
every simulation: other cells of the same kind, which nothing here was chosen by.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

import dbx


def impute(adata, how: str) -> np.ndarray:
    """Imputed values of linear counts, the kernel in 50 components of log counts or of the values themselves."""
    dbx.pp.normalize_total(adata)
    adata.layers["linear"] = adata.X.copy()
    if how.startswith("two choices"):
        dbx.pp.log1p(adata)
        dbx.pp.pca(adata, n_comps=50)
        dbx.pp.magic(adata, layer="linear", use_rep="X_pca", t="auto" if how.endswith("auto") else 3)
    else:
        dbx.pp.magic(adata)
    return adata.layers["magic"]


def embed(adata, how: str) -> np.ndarray:
    """Positions by PHATE."""
    if adata.uns["kind"] == "counts":
        dbx.pp.normalize_total(adata)
        dbx.pp.log1p(adata)
    dbx.tl.phate(adata, n_pca=min(50, adata.n_vars - 1))
    return adata.obsm["X_phate"]


def archetypes(adata, how: str) -> tuple[np.ndarray, np.ndarray]:
    """Corners and weights."""
    dbx.tl.archetypes(adata, adata.uns["k"], use_rep="X")
    return adata.uns["archetypes"]["archetypes"], adata.obsm["X_archetypes"]


def doublets(adata, expected_rate: float, how: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores and calls."""
    adata.obs_names_make_unique()
    dbx.pp.scrublet(adata, method=how, expected_doublet_rate=expected_rate, random_state=seed)
    return adata.obs["doublet_score"].to_numpy(), adata.obs["predicted_doublet"].to_numpy()


def velocity(adata, mode: str) -> dict[str, Any]:
    """Velocities, gamma / beta, time and transitions of a mode."""
    dbx.pp.normalize_total(adata)
    dbx.pp.log1p(adata)
    dbx.pp.pca(adata, n_comps=30)
    dbx.pp.neighbors(adata, n_neighbors=30)
    dbx.pp.moments(adata)
    counted = mode == "dynamical, counts"
    dynamical = counted or mode == "dynamical"
    if dynamical:
        dbx.tl.recover_dynamics(adata, likelihood="counts" if counted else "gaussian")
    dbx.tl.velocity(adata, mode="dynamical" if dynamical else mode)
    dbx.tl.velocity_graph(adata)
    if dynamical:
        dbx.tl.latent_time(adata, min_likelihood=None if counted else 0.1)
        time, gamma = adata.obs["latent_time"], adata.var["fit_gamma"] / adata.var["fit_beta"]
    else:
        dbx.tl.velocity_pseudotime(adata)
        time, gamma = adata.obs["velocity_pseudotime"], adata.var.get("velocity_gamma", np.full(adata.n_vars, np.nan))
    return {
        "velocity": np.asarray(adata.layers["velocity"]),
        "gamma": np.asarray(gamma, float),
        "latent_time": np.asarray(time),
        "transitions": adata.obsp["T_fwd"],
    }


MODES = ("steady_state", "stochastic", "dynamical", "dynamical, counts", "local")
IMPUTED = ("two choices", "two choices, t auto", "one matrix")
SHOWN = {
    "impute": ("gene_r", "rmse", "sd_ratio", "nll"),
    "embed": ("demap", "trust", "knn_acc"),
    "archetypes": ("ev", "corner_err", "hull_err", "weight_r"),
    "doublets": ("auroc", "ap", "n_called", "precision"),
    "velocity": ("cos", "sign", "gamma_r", "time_rho", "ahead", "stable_v"),
}


def found(folder: str, task: str, shift: int) -> Iterator[tuple[str, str, dict[str, float]]]:
    """(set, method, measures) of a task."""
    sys.path.insert(0, folder)
    if task == "doublets":
        scorer = importlib.import_module("score_doublet")
        for how, seed in itertools.product(("scrublet", "calibrated"), range(shift, shift + 3)):
            result = scorer.score(lambda a, rate, seed, how=how: doublets(a, rate, how, seed), "chcl", seed)
            yield f"hashed cells, seed {seed}", how, result
    elif task == "velocity":
        scorer = importlib.import_module("score_velocity")
        for name, mode in itertools.product(scorer.SETS, MODES):
            yield name, mode, scorer.score(lambda a, seed, mode=mode: velocity(a, mode), name)
    else:
        scorer = importlib.import_module("score_magic_phate")
        function = {"impute": impute, "embed": embed, "archetypes": archetypes}[task]
        for name, how in itertools.product(
            [x for x in scorer.TASKS if x.startswith(task)], IMPUTED if task == "impute" else ("",)
        ):
            yield name.split(":")[1], how, scorer.score(lambda _, a, seed, how=how: function(a, how), name)


def shifted(folder: str, shift: int) -> None:
    """Add a number to the seeds of the scorers' simulations."""
    sys.path.insert(0, folder)
    for module, sets in (("score_trajectory", "SIMS"), ("score_velocity", "SETS"), ("score_magic_phate", "CORNERS")):
        for settings in getattr(importlib.import_module(module), sets).values():
            settings["seed"] += shift


def main() -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("tasks", nargs="*", default=list(SHOWN))
    parser.add_argument("--shift", type=int, default=0)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    dbx.settings.verbosity = "error"
    shifted(asked.folder, asked.shift)
    for task in asked.tasks:
        for name, how, result in found(asked.folder, task, asked.shift):
            measures = ", ".join(f"{key} {result[key]:.3f}" for key in SHOWN[task] if key in result)
            print(f"| {task} {name} | {how} | {measures} | {result['run_cpu_s']:.1f} s |", flush=True)


if __name__ == "__main__":
    main()
