"""Objectives of ``dbx.optimize``: functions that name the slots they read, and their weighted sums."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Literal

import jax.numpy as jnp

from dbx.losses.hints import hint_of_slots

Column = Literal["names", "values", "order", "results"]
"""What a column of ``obs`` is read as: names of groups, numbers or codes, ranks of times, or numbers of the columns of
the evaluated slot."""


def _no_step(name: str | None) -> tuple[Any, Any, Any]:
    msg = "This objective needs the steps that are trained, as dbx.optimize runs them."
    raise ValueError(msg)


@dataclass(frozen=True)
class Cells:
    """Values of the cells of a minibatch that an objective is computed from."""

    z: Any
    """The evaluated slot, an array of shape (n_cells, n_dims)."""
    read: Mapping[str, Any]
    """Name -> array, or codes, of a slot that the objective :attr:`reads <Objective.reads>`."""
    rows: Any
    """Array of shape (n_cells,), int: identity of each cell."""
    head: Any = None
    """Model that is trained with the steps and evaluates them, such as a logistic regression on ``z``."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Name -> array about all cells, such as the fraction of cells in each batch."""
    run: Callable[[str | None], tuple[Any, Any, Any]] = field(default=_no_step)
    """Operator, inputs and outputs of a step, by name, with its current parameters."""
    hidden: Any = None
    """Array of shape (n_cells, n_columns), bool: values of the first step's input that were hidden from the steps."""
    epoch: Any = math.inf
    """Epochs of training done; infinity where cells are judged."""
    velocity: Any = None
    """Derivative of ``z`` along the velocity of the first step's input, an array of the shape of ``z``."""


@dataclass(frozen=True)
class Brought:
    """A step that an objective brings along."""

    settings: Mapping[str, Any]
    """Of its operator."""
    inputs: Mapping[str, str]
    """Name of an input -> slot."""
    writes: Mapping[str, str]
    """Name of an output -> slot."""


class Objective:
    """A value for each cell that training minimises. Objectives are combined as ``a + 0.1 * b``."""

    def __repr__(self) -> str:
        values = [(f, getattr(self, f.name)) for f in fields(self)]
        shown = [
            f"{f.name}={value!r}" if f.kw_only else repr(value) for f, value in values if value not in (f.default, ())
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    slot: str | None
    name: ClassVar[str]
    """Name of its values in the history."""
    labelled: ClassVar[bool] = False
    """Cells with a missing value in its column are ignored."""
    of_sets: ClassVar[bool] = False
    """The value of a cell depends on the others in its minibatch."""
    keeps_neighbours: ClassVar[bool] = False
    """A layout is trained by it only as far as it keeps depicting the neighbourhoods of held-out cells."""
    of_values: ClassVar[bool] = False
    """The objective reconstructs the input, so input dropout is off."""
    method: ClassVar[str | None] = None
    """Method of an operator that it calls; it is then about one step."""
    column: ClassVar[Column] = "names"
    """How a column of ``obs`` outside the trained steps is read."""
    partial: ClassVar[str | None] = None
    """Name of what it reads whose missing values leave a cell out."""
    operator: ClassVar[str | None] = None
    """Name of the operator whose own loss it is, which it can bring along: see :attr:`brings`."""

    @property
    def brings(self) -> Brought | None:
        """A step that is fitted before training, trained along, and recorded; None where it brings none."""
        return None

    @property
    def reads(self) -> dict[str, str | None]:
        """Name -> slot that it reads besides the evaluated one; None for the input of the first step."""
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
                f"The weight of an objective must be a number above 0; got {weight!r}. Objectives are minimised; to "
                "mix batches use BatchMixing."
            )
            raise ValueError(msg)
        whole = as_sum(self)
        return Sum(whole.parts, tuple(weight * (1.0 if w is None else w) for w in whole.weights))

    __rmul__ = __mul__


@dataclass(frozen=True, repr=False)
class Sum(Objective):
    """Sum of several objectives.

    Without weights, each is divided by its root mean square over held-out cells before training, so that units do not
    matter, nor does an objective that only a few cells still contribute to. If any has a weight, all are added
    unscaled, times their weights (1 by default).
    """

    parts: tuple[Objective, ...]
    weights: tuple[float | None, ...]

    @property
    def words(self) -> str:
        """The expression that a user would type."""
        pairs = zip(self.weights, self.parts, strict=True)
        return " + ".join(("" if weight is None else f"{weight:g} * ") + repr(part) for weight, part in pairs)

    @property
    def balanced(self) -> bool:
        """Whether each objective is divided by its size before training."""
        return len(self.parts) > 1 and all(weight is None for weight in self.weights)


@dataclass(frozen=True, repr=False)
class Function(Objective):
    """Any function of slots.

    Parameters
    ----------
    function
        Receives the evaluated slot, then ``slots`` in their order: arrays of the cells in a minibatch, int32 codes for
        a categorical column (-1 where missing). Returns an array of shape (n_cells,) to minimise; pure JAX.
    slots
        Further slots: read or written by the trained steps, or any other with a value for each cell.
    slot
        The evaluated slot; by default what the last trained step writes for cells.
    """

    function: Callable
    slots: tuple[str, ...] = ()
    slot: str | None = field(default=None, kw_only=True)
    name: ClassVar[str] = "function"
    column: ClassVar[Column] = "values"

    @property
    def reads(self) -> dict[str, str | None]:
        """See :attr:`Objective.reads`."""
        return {slot: slot for slot in self.slots}

    def of_cells(self, cells: Cells):
        """What the function returns."""
        name, n_cells = getattr(self.function, "__name__", "the function"), len(cells.rows)
        try:
            values = self.function(cells.z, *(cells.read[slot] for slot in self.slots))
        except (TypeError, ValueError) as error:
            hint = hint_of_slots(self.function, n_cells)
            if not hint:
                raise
            msg = f"{name} failed on a minibatch of {n_cells} cells ({str(error).splitlines()[0]}). {hint}"
            raise ValueError(msg) from error
        if jnp.shape(values) != (n_cells,):
            msg = (
                f"{name} must return one value for each of the {n_cells} cells of a minibatch, an array of shape "
                f"(n_cells,) without taking the mean; got shape {jnp.shape(values)}. "
                f"{hint_of_slots(self.function, n_cells)}"
            )
            raise ValueError(msg.rstrip())
        return values


def as_sum(loss: Objective | Callable) -> Sum:
    """An objective, a sum of them or a plain function as a sum."""
    if isinstance(loss, type):
        msg = f'Pass an instance, not the class: {loss.__name__}(...), such as CrossEntropy("cell_type").'
        raise TypeError(msg)
    if isinstance(loss, Sum):
        return loss
    return Sum((loss if isinstance(loss, Objective) else Function(loss),), (None,))
