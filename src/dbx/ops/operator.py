"""The base class of operators: one step of an analysis, independent of AnnData."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Protocol, TypeVar, dataclass_transform

import numpy as np
from flax import nnx

from dbx.ops.precision import full_precision
from dbx.ops.whole_numbers import with_whole_numbers

Content = Literal["counts", "normalized", "log", "scaled", "embedding", "fractional"]


class Progress(Protocol):
    """Called as ``progress(done, total, note)`` by a fit that can take more than a few seconds."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show how much is done."""


def silent(done: int, total: int, note: str = "") -> None:
    """A progress callback that shows nothing."""


class Constant(nnx.Variable):
    """A fitted value that is not trained unless a user selects it: means, anchors, centroids."""


class Text(nnx.Variable):
    """A fitted text, such as names or JSON, stored as UTF-8 bytes, which jit and every file format accept."""

    def __init__(self, value: str | np.ndarray, **metadata: Any):
        super().__init__(np.frombuffer(value.encode(), np.uint8) if isinstance(value, str) else value, **metadata)


def text_of(variable: nnx.Variable) -> str:
    """The text of a :class:`Text`, or of a Constant with its bytes, as in programs of dbx 0.1."""
    return np.asarray(variable.get_value()).tobytes().decode()


class Reference(nnx.Variable):
    """Values of the fitted cells that a transductive operator needs; stored in a slot, not in the registry."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """A declared input of an operator.

    ``kind`` says what ``fit`` and ``__call__`` receive:

    ========  ================================  =============================================================
    kind      ``fit``                           ``__call__``
    ========  ================================  =============================================================
    matrix    RowBlocks                         Array of shape (n_cells, n_columns); CSR where ``sparse``
    graph     CSR matrix                        Graph
    codes     Codes                             Codes
    columns   dict of Codes and float64 arrays  the same
    rows      int32 array                       int32 array: a cell's row among the fitted cells, -1 for others
    text      int8 array                        int8 array of shape (n_cells, length): ASCII codes, padded with 0
    tensor    float or int32 array              the same: an array of shape (n_cells, ...)
    ========  ================================  =============================================================

    A row of -2 - i is fitted cell i, to be placed like a new cell among all other fitted cells.
    """

    kind: Literal["matrix", "graph", "codes", "columns", "rows", "text", "tensor"] = "matrix"
    genes: bool = False
    """Columns are genes, matched by name in a query."""
    least_known: float = 0.0
    """Share of the genes that a query must have, also where missing ones are taken as zero."""
    content: tuple[Content, ...] = ()
    """What the matrix may hold; empty for any content."""
    unseen: Literal["raise", "missing", "new", "extend"] = "raise"
    """How a level absent from the fitted cells is treated: an error, the code -1, a code of its own for which nothing
    is learned, or a small fit by ``extend``."""
    discrete: bool = False
    """Numbers in columns are names of levels (batches 1, 2, 3), not measurements; codes always are."""
    missing: bool = False
    """Values of the column may be missing; their code is -1. Entries of the matrix may be NaN."""
    empty_cells: Literal["allow", "warn", "raise"] = "allow"
    """Whether cells without any count are allowed, at the fit and among new cells."""
    optional: bool = False
    of_fitted_cells: bool = False
    """Only needed for the fitted cells (a mask of them), not for new cells."""
    ragged: bool = False
    """A graph is kept of the fitted cells as :class:`dbx.ops.ragged.RaggedGraph`, not padded."""
    stored: bool = False
    """New cells may lack it: ``__call__`` then gets None, and uses what it stored of the fitted cells."""
    counted: bool = False
    """Its columns, where they have names, are all that was counted: one that new cells lack is zero, and one that the
    fitted cells lacked must be."""

    @property
    def can_lack(self) -> bool:
        """Whether new cells may be without it."""
        return self.of_fitted_cells or self.stored


@dataclass(frozen=True, kw_only=True)
class Output:
    """A declared output: what ``__call__`` returns for cells or, with ``view``, an attribute of the fitted operator."""

    axis: Literal["cells", "genes", "none"] = "cells"
    dtype: str | None = "float32"
    """``"category"`` for Codes; None where it follows the input."""
    view: bool = False
    content: Content | None = None
    """What the slot holds afterwards, where later steps depend on it."""
    levels: bool = False
    """Its columns are named by the operator's ``levels``."""
    inference: bool = False
    """A conclusion about the fitted cells (a test, a DE table), which is skipped on a query; a selection is kept."""
    passes: bool = False
    """A filter: whether each cell or, as a view, each gene is kept; the wrapper removes the others, and
    ``dbx.rerun(filter_cells=True)`` removes them from new cells."""
    ragged: bool = False
    """A graph is kept of the fitted cells as :class:`dbx.ops.ragged.RaggedGraph`, not padded."""


class Unit(NamedTuple):
    """Scale of a parameter in training."""

    of_distance: Any
    """Unit of the penalised distance from the initial value; broadcast against the parameter."""
    of_step: float
    """Step size at a learning rate of 1, in units of ``of_distance``."""


class Operator(nnx.Module):
    """One step of an analysis: ``fit`` finds its state, ``__call__`` is a pure function of state and inputs.

    A subclass declares ``name``, ``inputs`` and ``outputs``; its ``__init__`` takes keyword-only plain JSON values and
    keeps each as an attribute of the same name. ``fit(*, <inputs>, seed, progress)`` sets attributes that are
    ``nnx.Param``, ``Constant`` or ``Reference``; ``__call__(<inputs>)`` returns the cell outputs by name;
    ``loss(inputs, outputs)``, if defined, is the operator's own loss. Its public methods multiply
    float32 matrices in full precision on every device.
    """

    name: ClassVar[str]
    inputs: ClassVar[Mapping[str, Input]]
    outputs: ClassVar[Mapping[str, Output]]
    rowwise: ClassVar[bool] = False
    """Each row of the outputs depends only on the same row of the inputs and on the state."""
    sparse: bool = False
    """``__call__`` keeps zeros and also takes a SciPy CSR block, which it returns as CSR."""
    host: ClassVar[bool] = False
    """``__call__`` also takes NumPy blocks: arithmetic at memory speed, which compiling would only slow down."""
    in_pieces: ClassVar[bool] = False
    """``__call__`` goes through the rows of a NumPy or CSR matrix a few at a time, so that it takes all of them at
    once, in any dtype."""
    resumes: ClassVar[bool] = False
    """``fit`` can continue from the stored parameters."""
    blockwise: ClassVar[bool] = False
    """It works on a graph, and training can pass through it in blocks of fitted cells with their neighbours."""
    of_all_cells: ClassVar[bool] = False
    """What it gives a fitted cell depends on all of them: training passes it with all cells at once, by ``together``,
    and fits it again after each stage."""
    in_space: ClassVar[bool] = False
    """What it gives a cell depends on its neighbours in tissue or in a sequence: a call gets whole slices or sequences,
    and graphs it returns are between cells of the call."""
    in_sequences: ClassVar[str | None] = None
    """Name of the input with the sequence of each cell, whose cells belong together: training passes whole sequences,
    or all cells as one where that input is not read."""
    role: ClassVar[Literal["projection", "gate", "head"] | None] = None
    """Its role in training: the coordinates trained by default, the gene selection trained after them, or the layer
    that predicts labels from them."""
    precision: Literal["float32", "float64"] = "float32"
    result: ClassVar[str | None] = None
    """The output that all others go with: where another run of such an operator writes it into the same slot, it
    replaces all that this one wrote, so that nothing of another mode is left beside it. None where only a run that
    writes all the same slots does."""
    unlisted: ClassVar[frozenset[str]] = frozenset()
    """Settings that a user did not choose, which tables of steps leave out."""
    alternatives: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    """Settings that others often choose: new cells that were computed with one of these are refused by its name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = with_whole_numbers(cls.__init__)  # type: ignore[method-assign]  # wrapped on purpose
        for name, method in list(vars(cls).items()):
            if inspect.isfunction(method) and (name == "__call__" or not name.startswith("_")):
                setattr(cls, name, full_precision()(method))

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[Operator]:
        """The class with the inputs and outputs of a configuration: itself, unless they depend on it."""
        return cls

    @classmethod
    def listed(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        """The settings of a configuration as tables of steps list them."""
        return {name: value for name, value in config.items() if name not in cls.unlisted}

    @classmethod
    def functions(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        """Names of the functions of the session with which a configuration computes."""
        return ()

    # *args, which no operator takes, with **inputs lets type checkers accept any parameters in a subclass
    def fit(self, *args: Any, **inputs: Any) -> None:
        """Find the state with the best available solver."""
        raise NotImplementedError

    def __call__(self, *args: Any, **inputs: Any) -> dict[str, Any]:
        """Map cells, given the state; an operator without outputs for cells returns an empty dict."""
        return {}

    def together(self, *args: Any, **inputs: Any) -> dict[str, Any]:
        """The outputs for all fitted cells in their order, as a differentiable function of the inputs.

        Discrete choices, such as who is whose neighbour, are those of the fit. At the inputs of the fit these are the
        stored results.
        """
        return self(*args, **inputs)

    def loss(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]):
        """The operator's own loss of each cell, an array of shape (n_cells,)."""
        msg = f"The operator {self.name!r} does not define a loss."
        raise NotImplementedError(msg)

    def undone(self, x: np.ndarray) -> np.ndarray | None:
        """The input that dense rows of the output were computed from, None where the output does not tell.

        Entries that do not tell are NaN.
        """
        return None

    def counted_totals(self, x: np.ndarray) -> tuple[np.ndarray, float] | None:
        """Total of each row of the output, and what it is for every cell; None if the operator gives none."""
        return None

    @property
    def references(self) -> Mapping[str, str]:
        """``Reference`` attribute -> the input or output whose slot holds its values; usually a class attribute."""
        return {}

    @property
    def neighbours(self) -> Any:
        """Neighbours of each fitted cell in the operator's graph, an array of shape (n_cells, width), int32.

        None for operators that do not compute a graph.
        """
        return None

    def check_differentiable(self) -> None:
        """Raise ValueError if its settings make ``__call__`` non-differentiable."""

    @property
    def fit_config(self) -> dict[str, Any]:
        """The part of :attr:`config` that the fitted state depends on.

        If only other settings change, such as the contrast of a test, ``fit`` keeps the state and recomputes the
        results.
        """
        return self.config

    @classmethod
    def config_after(cls, config: Mapping[str, Any], results: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any]:
        """The configuration for another fit, with the settings that were taken from results of earlier steps.

        ``results`` are the outputs, by name, of the step that an input comes from, for inputs whose step just ran.
        """
        return config

    def jitter(self, key) -> dict[str, Any]:
        """Parameter -> noise that is added to it in each minibatch of a training, for stochastic gates."""
        return {}

    def prepared(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """The inputs of ``__call__`` for all cells, with what is better found for all of them than block by block."""
        return inputs

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
        """The outputs of ``__call__`` for all cells by NumPy, whatever JAX runs on; None where compiling pays.

        ``inputs`` are those of ``dbx.ops.apply``.
        """
        return None

    def refresh(self) -> None:
        """Update what is stored of the fitted cells after their values in a ``Reference`` changed."""

    def settle(self, outputs: Mapping[str, Any]) -> None:
        """Update what is stored of the fitted cells after training changed the parameters.

        ``outputs`` are the operator's outputs for the fitted cells with the new parameters.
        """

    def depicted(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[Any, Any] | None:
        """The coordinates whose neighbourhoods a layout shows, and the layout, arrays of shape (n_cells, n_dims).

        None for operators that draw no layout.
        """
        return None

    @property
    def units(self) -> dict[str, Unit]:
        """Parameter -> its unit of distance and step size in training; 1 by default."""
        return {}

    @property
    def config(self) -> dict[str, Any]:
        """The keyword arguments that build this operator again, as plain JSON values."""
        return {name: plain(getattr(self, name)) for name in config_names(type(self))}


OperatorClass = TypeVar("OperatorClass", bound=Operator)


@dataclass_transform(kw_only_default=True)
def with_fields(operator: type[OperatorClass]) -> type[OperatorClass]:
    """Class decorator: settings are annotated class attributes with defaults, as of a dataclass, base classes' first.

    For operators that share most of their settings. ``__post_init__`` checks them and makes what is trained.
    """
    made = dataclass(kw_only=True, eq=False, repr=False)(operator)
    made.__init__ = with_whole_numbers(made.__init__)  # type: ignore[method-assign]  # wrapped on purpose
    return made


def config_names(operator: type[Operator]) -> list[str]:
    """Names of the keyword arguments of an operator's ``__init__``."""
    parameters = inspect.signature(operator.__init__).parameters.values()
    return [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]


def plain(value):
    """A configuration value as JSON represents it: tuples become lists, NumPy scalars Python scalars."""
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value


def frozen(value):
    """The inverse of :func:`plain` for attributes, which jit needs hashable: lists become tuples."""
    return tuple(frozen(v) for v in value) if isinstance(value, list | tuple) else value
