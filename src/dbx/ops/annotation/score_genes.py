"""Scores of sets of genes against control genes."""

from __future__ import annotations

from typing import ClassVar

from dbx.data.blocks import RowBlocks
from dbx.ops.operator import Input, Operator, Output, Progress, silent
from dbx.ops.values import Array


class ScoreGenes(Operator):
    """score = mean of the genes of a set - mean of their control genes, in each cell.

    ``members`` and ``controls`` are column numbers. Nothing is fitted: the controls are drawn before.

    New cells: scored with the same genes and the same control genes.
    """

    name = "score_genes"
    inputs: ClassVar = {"x": Input(genes=True)}
    outputs: ClassVar = {"score": Output(dtype="float64")}
    rowwise = True
    precision = "float64"
    unlisted = frozenset({"members", "controls"})

    def __init__(self, *, members: tuple[int, ...], controls: tuple[int, ...]):
        self.members, self.controls = members, controls

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Nothing to fit."""

    def __call__(self, x: Array) -> dict[str, Array]:
        return {"score": mean_difference(x, self.members, self.controls)}


def mean_difference(x: Array, members: tuple[int, ...], controls: tuple[int, ...]) -> Array:
    """Mean of some columns minus the mean of others, an array of shape (n_cells,)."""
    return x[:, list(members)].mean(axis=1) - x[:, list(controls)].mean(axis=1)
