"""Objectives of ``dbx.optimize``: functions that name the slots they read, and their weighted sums."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp

from dbx.losses.neighbourhoods import batch_mixing, compactness, velocity_consistency

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
    velocity: Any = None
    """Derivative of ``z`` along the velocity of the first step's input, an array of the shape of ``z``."""


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
    of_values: ClassVar[bool] = False
    """The objective reconstructs the input, so input dropout is off."""
    column: ClassVar[Column] = "names"
    """How a column of ``obs`` outside the trained steps is read."""
    partial: ClassVar[str | None] = None
    """Name of what it reads whose missing values leave a cell out."""

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
class CrossEntropy(Objective):
    """Cross-entropy of the labels of cells, predicted from an embedding by a logistic regression trained with it.

    Each label is weighted by the inverse square root of its number of cells.

    Parameters
    ----------
    label
        Column of ``obs`` with the labels; cells with a missing label are ignored.
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
    """Divergence of the batches around a cell from those of all cells: :func:`dbx.losses.batch_mixing`.

    It does not change when the embedding is scaled. Batches with different cell types should not be mixed completely:
    add ``CrossEntropy`` of the types.

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
    """Fraction of the variance of an embedding within groups of cells: :func:`dbx.losses.compactness`.

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
class VelocityConsistency(Objective):
    """Disagreement of the velocities of neighbouring cells: :func:`dbx.losses.velocity_consistency`.

    Parameters
    ----------
    velocity
        Slot of the velocities. In a slot with genes, such as ``"layers/velocity"``, they are velocities of the input of
        the first trained step and are projected through the steps; genes without velocity (NaN) count as 0. In any
        other slot they are velocities of the embedding.
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
        """One minus the mean cosine with the velocities of the neighbours."""
        velocity = cells.read["velocity"] if cells.velocity is None else cells.velocity
        return velocity_consistency(cells.z, velocity, cells.rows)


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

    def of_cells(self, cells: Cells):
        """The same fraction for each cell."""
        operator, _, _ = cells.run(self.step)
        return jnp.full(len(cells.rows), operator.expected_open())


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
            hint = _hint_of_slots(self.function, n_cells)
            if not hint:
                raise
            msg = f"{name} failed on a minibatch of {n_cells} cells ({str(error).splitlines()[0]}). {hint}"
            raise ValueError(msg) from error
        if jnp.shape(values) != (n_cells,):
            msg = (
                f"{name} must return one value for each of the {n_cells} cells of a minibatch, an array of shape "
                f"(n_cells,) without taking the mean; got shape {jnp.shape(values)}. "
                f"{_hint_of_slots(self.function, n_cells)}"
            )
            raise ValueError(msg.rstrip())
        return values


def _hint_of_slots(function: Callable, n_cells: int) -> str:
    """How to pass values of cells, where a function has arrays from outside that are longer than a minibatch."""
    lengths = {name: len(x) for name, x in _values_of(function).items() if not hasattr(x, "ndim") or x.ndim > 0}
    longer = {name: length for name, length in lengths.items() if length > n_cells}
    if not longer:
        return ""
    name, length = next(iter(longer.items()))
    return (
        f"It uses {name!r}, which has {length} rows, and a minibatch has fewer. Put values of cells into a slot, which "
        f"is cut into minibatches along with the cells: adata.obs[{name!r}] = {name}; "
        f"dbx.losses.Function(lambda z, {name}: ..., slots=('obs/{name}',))."
    )


def _values_of(function: Callable) -> dict[str, Any]:
    """Arrays and lists that a function finds outside its arguments, by name."""
    found: dict[str, Any] = {}
    while isinstance(function, functools.partial):
        found |= {f"values_{i}": value for i, value in enumerate(function.args)} | function.keywords
        function = function.func
    if inspect.isfunction(function):
        used = inspect.getclosurevars(function)
        found |= {**used.globals, **used.nonlocals}
        found |= {p.name: p.default for p in inspect.signature(function).parameters.values()}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, list | tuple) or isinstance(getattr(value, "shape", None), tuple)
    }


def as_sum(loss: Objective | Callable) -> Sum:
    """An objective, a sum of them or a plain function as a sum."""
    if isinstance(loss, type):
        msg = f'Pass an instance, not the class: {loss.__name__}(...), such as CrossEntropy("cell_type").'
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
