"""Objectives of values reconstructed from an embedding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from dbx.losses.objectives import Cells, Objective


@dataclass(frozen=True, repr=False)
class Reconstruction(Objective):
    """Fraction of the variance that a linear reconstruction from the embedding, trained with it, does not explain.

    Principal components are already optimal; added to another objective this keeps the embedding close to them.

    Parameters
    ----------
    of
        Slot of the values to reconstruct, such as ``"X"``; by default the input of the first trained step.
    slot
        Slot of the embedding; by default what the last trained step writes for cells.
    """

    of: str | None = None
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "reconstruction"
    of_values: ClassVar[bool] = True

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {"of": self.of}

    def of_cells(self, cells: Cells):
        """Squared error of each cell's reconstruction, relative to the variance of all cells."""
        return cells.head.loss(cells.z, cells.read["of"])
