"""Phases of the cell cycle by the scores of two sets of genes."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp

from dbx.data.blocks import RowBlocks
from dbx.ops.annotation.score_genes import mean_difference
from dbx.ops.operator import Input, Operator, Output, Progress, silent
from dbx.ops.values import Array, Codes

PHASES = ("G1", "G2M", "S")


class CellCycle(Operator):
    """Scores of the genes of S and of G2M phase, and the phase: G1 if both are negative, else that of the higher one.

    All settings are column numbers; nothing is fitted.

    New cells: scored with the same genes and the same control genes.
    """

    name = "score_genes_cell_cycle"
    inputs: ClassVar = {"x": Input(genes=True)}
    outputs: ClassVar = {
        "s_score": Output(dtype="float64"),
        "g2m_score": Output(dtype="float64"),
        "phase": Output(dtype="category"),
    }
    rowwise = True
    precision = "float64"
    unlisted = frozenset({"s_genes", "s_controls", "g2m_genes", "g2m_controls"})

    def __init__(
        self,
        *,
        s_genes: tuple[int, ...],
        s_controls: tuple[int, ...],
        g2m_genes: tuple[int, ...],
        g2m_controls: tuple[int, ...],
    ):
        self.s_genes, self.s_controls = s_genes, s_controls
        self.g2m_genes, self.g2m_controls = g2m_genes, g2m_controls

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Nothing to fit."""

    def __call__(self, x: Array) -> dict[str, Any]:
        s = mean_difference(x, self.s_genes, self.s_controls)
        g2m = mean_difference(x, self.g2m_genes, self.g2m_controls)
        code = jnp.where((s < 0) & (g2m < 0), 0, jnp.where(g2m > s, 1, 2))
        return {"s_score": s, "g2m_score": g2m, "phase": Codes(code.astype(jnp.int32), PHASES)}
