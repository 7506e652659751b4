"""Objectives of values reconstructed from an embedding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax.numpy as jnp

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


@dataclass(frozen=True, repr=False)
class MaskedReconstruction(Objective):
    """Error of values that were hidden from the steps, relative to the variance of all values.

    In each minibatch a fraction of the values of the first trained step's input is replaced (counts by 0, others by the
    mean of the column), and the objective is the mean squared error at these only, so that copying the input does not
    help: 1 is the error of the mean. A slot with genes is compared with the values as it is; from any other slot they
    are decoded by a linear map that is trained with the steps. Held-out cells are judged with the same values hidden
    every time.

    Parameters
    ----------
    mask_rate
        Fraction of the values that are hidden.
    slot
        Slot of the reconstruction, or of an embedding; by default what the last trained step writes for cells.

    Examples
    --------
    >>> import dbx
    >>> dbx.losses.MaskedReconstruction(0.3)
    MaskedReconstruction(0.3)
    """

    mask_rate: float = 0.15
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "masked_reconstruction"
    of_values: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.mask_rate, bool) or not 0 < self.mask_rate < 1:
            msg = f"mask_rate must be between 0 and 1; got {self.mask_rate!r}."
            raise ValueError(msg)

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {"of": None}

    def of_cells(self, cells: Cells):
        """Mean squared error of each cell's hidden values, relative to the variance of all cells."""
        x = cells.read["of"]
        found = cells.z if cells.head is None else cells.head(cells.z)
        if found.shape != x.shape:
            msg = (
                f"{found.shape[1]} columns are reconstructed, and the first trained step's input has {x.shape[1]}: "
                "name an embedding, or a slot with the same genes, slot=..."
            )
            raise ValueError(msg)
        square = jnp.where(cells.hidden, (x - found) ** 2, 0).sum(axis=1)
        return square / jnp.maximum(cells.hidden.sum(axis=1), 1) / cells.facts["variance"]
