"""Objectives that a trained step computes itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import jax.numpy as jnp

from dbx.losses.objectives import Cells, Objective


@dataclass(frozen=True, repr=False)
class Elbo(Objective):
    """The loss of a trained step itself: for a variational autoencoder, the negative evidence lower bound.

    Parameters
    ----------
    step
        Name of the step; by default the first trained one.
    """

    step: str | None = None
    slot: str | None = field(default=None, init=False)
    name: ClassVar[str] = "elbo"
    method: ClassVar[str | None] = "loss"
    of_values: ClassVar[bool] = True

    def of_cells(self, cells: Cells):
        """The step's loss of each cell, in its units (nats)."""
        operator, inputs, outputs = cells.run(self.step)
        return operator.loss(inputs, outputs)


@dataclass(frozen=True, repr=False)
class ExpectedFragments(Elbo):
    """Negative log-likelihood per fragment of the classes that ``tl.quantify`` was run on, for its weights of members.

    Parameters
    ----------
    step
        Name of the step; by default the first trained one.
    """

    name: ClassVar[str] = "expected_fragments"


@dataclass(frozen=True, repr=False)
class OpenGates(Objective):
    """Expected fraction of open gates of a step: its L0 penalty (Louizos et al., ICLR 2018).

    In training it is computed from the scores with the noise that the gates are sampled with.

    Parameters
    ----------
    step
        Name of the step with gates; by default the first trained one.
    """

    step: str | None = None
    slot: str | None = field(default=None, init=False)
    name: ClassVar[str] = "open_gates"
    method: ClassVar[str | None] = "expected_open"

    def of_cells(self, cells: Cells):
        """The same fraction for each cell."""
        operator, _, _ = cells.run(self.step)
        return jnp.full(len(cells.rows), operator.expected_open())
