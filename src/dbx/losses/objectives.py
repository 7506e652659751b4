"""What ``dbx.optimize`` can be told to improve: values that name the slots they read, their sums and weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from dbx.losses.neighbourhoods import batch_mixing, compactness, velocity_consistency


def _no_step(name: str | None) -> tuple[Any, Any, Any]:
    msg = "This objective needs the steps that are trained, as dbx.optimize runs them."
    raise ValueError(msg)


@dataclass(frozen=True)
class Cells:
    """What an objective is told of the cells of a minibatch."""

    z: Any
    """The judged slot, an array of shape (n_cells, n_dims)."""
    read: Mapping[str, Any]
    """Name -> array, or codes, of a slot that the objective :attr:`reads <Objective.reads>`."""
    rows: Any
    """Array of shape (n_cells,), int: what tells cells apart."""
    head: Any = None
    """What is trained with the steps to judge them by."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Name -> array that is about all cells, such as the share of each batch."""
    run: Callable[[str | None], tuple[Any, Any, Any]] = field(default=_no_step)
    """Operator, inputs and outputs of the step of a name, as it stands."""
    velocity: Any = None
    """How ``z`` moves when what the chain starts from moves by its velocity, an array of the shape of ``z``."""


class Objective:
    """Something to improve: a value for each cell, less being better. ``a + 0.1 * b`` makes one of two."""

    def __repr__(self) -> str:
        given = [(f, getattr(self, f.name)) for f in fields(self)]
        told = [
            f"{f.name}={value!r}" if f.kw_only else repr(value) for f, value in given if value not in (f.default, ())
        ]
        return f"{type(self).__name__}({', '.join(told)})"

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    slot: str | None
    name: ClassVar[str]
    """What its values are called in the history."""
    labelled: ClassVar[bool] = False
    """Cells without its column take no part."""
    of_sets: ClassVar[bool] = False
    """A cell is judged by the others in its minibatch."""
    of_values: ClassVar[bool] = False
    """What the chain starts from is to be told again: none of it is hidden in training."""

    @property
    def reads(self) -> dict[str, str | None]:
        """Name -> slot of what it reads of each cell besides the judged slot; None for what the chain starts from."""
        return {}

    def of_cells(self, cells: Cells):
        """The value of each cell, an array of shape (n_cells,)."""
        raise NotImplementedError

    def __add__(self, other: Objective) -> Sum:
        first, second = as_sum(self), as_sum(other)
        return Sum((*first.parts, *second.parts), (*first.weights, *second.weights))

    def __radd__(self, other) -> Sum:
        return as_sum(self) if other == 0 else NotImplemented  # sum([a, b]) starts at 0

    def __mul__(self, weight: float) -> Sum:
        if not (isinstance(weight, int | float) and 0 < weight < float("inf")):
            msg = (
                f"A weight must be a number above 0, not {weight!r}: an objective is what is made small. For batches "
                "that cannot be told use BatchMixing."
            )
            raise ValueError(msg)
        whole = as_sum(self)
        return Sum(whole.parts, tuple(weight * (1.0 if w is None else w) for w in whole.weights))

    __rmul__ = __mul__


@dataclass(frozen=True, repr=False)
class Sum(Objective):
    """Several objectives at once.

    Without any weight each is divided by its size before training, the root mean square over held-out cells, so that
    units do not matter, nor does an objective that is near its end but for a few cells. With a weight for any of them
    all are added as they are, times their weights (1 where none is given).
    """

    parts: tuple[Objective, ...]
    weights: tuple[float | None, ...]

    @property
    def words(self) -> str:
        """What a user would type."""
        pairs = zip(self.weights, self.parts, strict=True)
        return " + ".join(("" if weight is None else f"{weight:g} * ") + repr(part) for weight, part in pairs)

    @property
    def balanced(self) -> bool:
        """Whether the weights follow from the values before training."""
        return len(self.parts) > 1 and all(weight is None for weight in self.weights)


@dataclass(frozen=True, repr=False)
class CrossEntropy(Objective):
    """How well labels of cells are told from an embedding, by a logistic regression that is trained with it.

    A label weighs as the inverse square root of its cells.

    Parameters
    ----------
    label
        Column of ``obs`` with the labels; cells without one (missing) take no part.
    slot
        Slot of the embedding, such as ``"obsm/X_pca_harmony"``; by default what the last trained step writes for cells.
    """

    label: str
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "cross_entropy"
    labelled: ClassVar[bool] = True

    def of_cells(self, cells: Cells):
        """Weighted negative log-probability of each cell's label, in nats."""
        return cells.head.loss(cells.z, cells.read["label"])


@dataclass(frozen=True, repr=False)
class BatchMixing(Objective):
    """How far the batches around a cell are from those of all cells: :func:`dbx.losses.batch_mixing`.

    Shrinking the embedding changes nothing. Batches that do not hold the same cell types should not be mixed
    completely: add ``CrossEntropy`` of the types.

    Parameters
    ----------
    batch
        Column of ``obs`` with the batches.
    slot
        Slot of the embedding; by default what the last trained step writes for cells.
    """

    batch: str
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "batch_mixing"
    of_sets: ClassVar[bool] = True

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {"batch": f"obs/{self.batch}"}

    def of_cells(self, cells: Cells):
        """Divergence of the batches near each cell, in nats."""
        return batch_mixing(cells.z, cells.read["batch"], cells.facts["batch"], cells.rows)


@dataclass(frozen=True, repr=False)
class Compactness(Objective):
    """Share of the variance of an embedding within groups of cells: :func:`dbx.losses.compactness`.

    Parameters
    ----------
    groups
        Column of ``obs`` with the groups, such as clusters.
    slot
        Slot of the embedding; by default what the last trained step writes for cells.
    """

    groups: str
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "compactness"
    of_sets: ClassVar[bool] = True

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {"groups": f"obs/{self.groups}"}

    def of_cells(self, cells: Cells):
        """Squared distance to the cell's group, relative to that between any two cells."""
        return compactness(cells.z, cells.read["groups"], cells.rows)


@dataclass(frozen=True, repr=False)
class Reconstruction(Objective):
    """Share of the variance of values that a linear map of the embedding, trained with it, does not give back.

    Principal components are the optimum already; with another objective this keeps them near.

    Parameters
    ----------
    of
        Slot of the values, such as ``"X"``; by default what the chain starts from.
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
        """Squared distance of each cell to what is given back, relative to the variance of all cells."""
        return cells.head.loss(cells.z, cells.read["of"])


@dataclass(frozen=True, repr=False)
class VelocityConsistency(Objective):
    """How much the velocities of cells that are near each other disagree: :func:`dbx.losses.velocity_consistency`.

    Parameters
    ----------
    velocity
        Slot of the velocities. In a slot of genes, such as ``"layers/velocity"``, they are those of what the chain
        starts from, and are pushed through it; genes without one (NaN) stand still. In any other slot they are those of
        the embedding.
    slot
        Slot of the embedding; by default what the last trained step writes for cells.
    """

    velocity: str = "layers/velocity"
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "velocity_consistency"
    of_sets: ClassVar[bool] = True

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {"velocity": self.velocity}

    def of_cells(self, cells: Cells):
        """One minus the mean cosine with the velocities around."""
        velocity = cells.read["velocity"] if cells.velocity is None else cells.velocity
        return velocity_consistency(cells.z, velocity, cells.rows)


@dataclass(frozen=True, repr=False)
class Elbo(Objective):
    """The objective of a trained step itself: of a variational autoencoder the negative evidence lower bound.

    Parameters
    ----------
    step
        Name of the step; by default the first trained one.
    """

    step: str | None = None
    slot: str | None = field(default=None, init=False)
    name: ClassVar[str] = "elbo"
    of_values: ClassVar[bool] = True

    def of_cells(self, cells: Cells):
        """The step's own objective of each cell, in its units (nats)."""
        operator, inputs, outputs = cells.run(self.step)
        return operator.loss(inputs, outputs)


@dataclass(frozen=True, repr=False)
class OpenGates(Objective):
    """Share of the gates of a step that are expected to be open: its L0 penalty (Louizos et al., ICLR 2018).

    In training it is taken at scores with the noise that the gates are drawn by.

    Parameters
    ----------
    step
        Name of the step with gates; by default the first trained one.
    """

    step: str | None = None
    slot: str | None = field(default=None, init=False)
    name: ClassVar[str] = "open_gates"

    def of_cells(self, cells: Cells):
        """The same share for each cell."""
        operator, _, _ = cells.run(self.step)
        return jnp.full(len(cells.rows), operator.expected_open())


@dataclass(frozen=True, repr=False)
class Function(Objective):
    """Any function of slots.

    Parameters
    ----------
    function
        Takes the judged slot, then ``slots`` in their order: arrays of the cells in a minibatch, int32 codes of a
        categorical column (-1 where missing). Returns an array of shape (n_cells,), less being better; pure JAX.
    slots
        Further slots: those that the chain computes or starts from, or any other with a value for each cell.
    slot
        The judged slot; by default what the last trained step writes for cells.
    """

    function: Callable
    slots: tuple[str, ...] = ()
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "function"

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {slot: slot for slot in self.slots}

    def of_cells(self, cells: Cells):
        """What the function returns."""
        values = self.function(cells.z, *(cells.read[slot] for slot in self.slots))
        if jnp.shape(values) != (len(cells.rows),):
            name = getattr(self.function, "__name__", "the function")
            msg = (
                f"{name} returned an array of shape {jnp.shape(values)}: one value for each of the {len(cells.rows)} "
                "cells is needed, an array of shape (n_cells,); do not take the mean."
            )
            raise ValueError(msg)
        return values


def as_sum(loss: Objective | Callable) -> Sum:
    """An objective, a sum of them or a plain function as a sum."""
    if isinstance(loss, type):
        msg = f'{loss.__name__} needs to be told of what: {loss.__name__}("column").'
        raise TypeError(msg)
    if isinstance(loss, Sum):
        return loss
    return Sum((loss if isinstance(loss, Objective) else Function(loss),), (None,))


def cross_entropy(logits, codes):
    """Negative log-probability of each cell's label, an array of shape (n_cells,); 0 for a code of -1.

    Parameters
    ----------
    logits
        Array of shape (n_cells, n_labels).
    codes
        Array of shape (n_cells,), int.
    """
    of_label = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.maximum(codes, 0)[:, None], axis=1)[:, 0]
    return jnp.where(codes < 0, 0, -of_label)
