"""Tables of communication: links, strengths between groups, gains of targets."""

from __future__ import annotations

import numpy as np

from dbx.ops.differential.false_discovery import false_discovery_rates
from dbx.ops.values import Codes, Frame

CALLED = 0.05
"""Adjusted p-value below which a link counts."""


def link_table(
    z: np.ndarray, gradient: np.ndarray, pvalue: np.ndarray, ligands: tuple[str, ...], targets: tuple[str, ...]
) -> Frame:
    """Links of ligands and targets, the strongest first, from arrays of shape (n_ligands, n_targets)."""
    padj = false_discovery_rates(pvalue.ravel())
    order = np.argsort(-np.abs(z), axis=None, kind="stable")
    ligand, target = np.unravel_index(order, z.shape)
    return Frame(
        {
            "ligand": Codes(ligand.astype(np.int32), ligands),
            "target": Codes(target.astype(np.int32), targets),
            "score": np.abs(z).ravel()[order],
            "pvalue": pvalue.ravel()[order],
            "padj": padj[order],
            "sign": np.sign(z).ravel()[order].astype(np.int64),
            "gradient": gradient.ravel()[order],
        },
        rows=None,
    )


def called(pvalue: np.ndarray) -> np.ndarray:
    """Links with an adjusted p-value below ``CALLED``, an array of the shape of ``pvalue``."""
    return false_discovery_rates(pvalue.ravel()).reshape(pvalue.shape) < CALLED


def group_table(strengths: np.ndarray, groups: tuple[str, ...]) -> Frame:
    """Strengths between groups, an array of shape (n_sources, n_targets), in rows."""
    source, target = (part.ravel().astype(np.int32) for part in np.indices(strengths.shape))
    return Frame(
        {"source": Codes(source, groups), "target": Codes(target, groups), "strength": strengths.ravel()}, rows=None
    )


def gain_table(gain: np.ndarray, baseline: np.ndarray, targets: tuple[str, ...]) -> Frame:
    """Held-out R2 of each target: gained by signals, and that of the baseline."""
    numbers = Codes(np.arange(len(targets), dtype=np.int32), targets)
    return Frame({"target": numbers, "gain": gain, "baseline_r2": baseline}, rows=None)
