"""A function of the user's own as an operator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar

import jax
import numpy as np
from flax import nnx
from scipy import sparse

from dbx._warnings import warn
from dbx.data.blocks import RowBlocks
from dbx.ops.apply import in_own_dtype, take
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.user.functions import Registered, find, why_missing
from dbx.ops.values import Codes

Pairs = tuple[tuple[str, str], ...]


class Fitted(nnx.Module):
    """What the user's ``fit`` returned, an attribute for each array."""


class Function(Operator):
    """Function of arrays written by the user; with a pair of functions, what ``fit`` returns is kept.

    New cells: the same function, with what ``fit`` returned on the reference. In another process it must be passed
    again: ``dbx.rerun(..., functions={"name": f})`` or ``dbx.register_step``.
    """

    name = "user_function"
    inputs: ClassVar[Mapping[str, Input]] = {}
    outputs: ClassVar[Mapping[str, Output]] = {}
    unlisted = frozenset({"reads", "writes", "positional", "traced", "compiled", "sparse", "by_cell", "digest"})

    def __init__(
        self,
        *,
        function: str,
        reads: Pairs = (),
        writes: Pairs = (),
        settings: str = "{}",
        positional: bool = False,
        traced: bool = False,
        compiled: bool = False,
        sparse: bool = False,
        by_cell: bool = False,
        digest: str = "",
    ):
        """A configuration.

        Parameters
        ----------
        function
            Its name.
        reads, writes
            Pairs of an input or output, and its kind or axis.
        settings
            Further arguments of the function as JSON.
        positional
            Its inputs have no names.
        traced
            JAX can differentiate it.
        compiled
            It computes with JAX, and is compiled.
        sparse
            It takes CSR matrices.
        by_cell
            The result of a cell does not depend on the other cells.
        digest
            Of its source.
        """
        self.function, self.reads, self.writes, self.settings = function, reads, writes, settings
        self.positional, self.traced, self.compiled = positional, traced, compiled
        self.sparse, self.by_cell, self.digest = sparse, by_cell, digest
        self.state, self.is_fitted = Fitted(), False
        known = find(function)
        self.number = -1 if known is None else known.number  # part of what is compiled
        if known is not None and known.changed_since(digest):
            warn(f"The function {function!r} of this session has another source than the one that was recorded.")

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[Operator]:
        return _declared(
            tuple(map(tuple, config.get("reads", ()))),
            tuple(map(tuple, config.get("writes", ()))),
            host=not config.get("compiled", False),
            by_cell=bool(config.get("by_cell", False)),
        )

    @classmethod
    def functions(cls, config: Mapping[str, Any]) -> tuple[str, ...]:
        return (config["function"],)

    def check_differentiable(self) -> None:
        if not self.traced:
            msg = f"The function {self.function!r} is not written in JAX (jax.numpy), so it has no gradient."
            raise ValueError(msg)

    def fit(self, *, seed: int = 0, progress: Progress = silent, **inputs: Any) -> None:
        registered = self._registered()
        if registered.fit is None or self.is_fitted:
            return
        found = self._call(registered.fit, (), self._taken(whole(inputs, sparse=self.sparse)))
        state = found if isinstance(found, Mapping) else {"state": found}
        for name, value in state.items():
            array = np.asarray(value)
            if not str(name).isidentifier() or array.dtype.kind not in "biuf":
                msg = (
                    f"`fit` of {self.function!r} must return numbers: an array or a dict of arrays by name; got "
                    f"{type(value).__name__} for {name!r}."
                )
                raise TypeError(msg)
            self._keep(str(name), array)
        self.is_fitted = True

    def _keep(self, name: str, array: np.ndarray) -> None:
        """Keep an array of the state: a parameter of what JAX computes, a constant of NumPy."""
        trained = self.compiled and array.dtype.kind == "f"
        setattr(self.state, name, nnx.Param(jax.numpy.asarray(array)) if trained else Constant(array))

    def __getattr__(self, name: str) -> Any:
        """What ``fit`` returned, by the names of outputs that are not of cells."""
        if name in type(self).outputs and hasattr(self.state, name):
            return getattr(self.state, name)[...]
        msg = f"{type(self).__name__!r} object has no attribute {name!r}"
        raise AttributeError(msg)

    def __call__(self, **inputs: Any) -> dict[str, Any]:
        registered = self._registered()
        self._check_pair(registered)
        state = () if registered.fit is None else (self._state(),)
        result = self._call(registered.apply, state, self._taken(inputs))
        names = [name for name, axis in self.writes if axis == "cells"]
        results = result if isinstance(result, Mapping) else {names[0]: result}
        if len(names) != len(results) or set(names) != set(results):
            wanted = f"a dict with {', '.join(map(repr, names))}" if len(names) > 1 else "one array"
            msg = f"The function {self.function!r} must return {wanted}, as `writes` says; got {_described(result)}."
            raise ValueError(msg)
        return {name: self._output(name, value, _n_rows(inputs)) for name, value in results.items()}

    def take_state(self, other: Function) -> None:
        """Take over what another operator of the same function fitted."""
        for path, variable in nnx.to_flat_state(nnx.state(other.state)):
            self._keep(str(path[0]), np.asarray(variable[...]))
        self.is_fitted = other.is_fitted

    def on_dense(self, **inputs: Any) -> dict[str, Any]:
        """Outputs for dense inputs, whichever storage was recorded."""
        dense = type(self)(**{**self.config, "sparse": False})
        dense.take_state(self)
        return dense(**inputs)

    def _registered(self) -> Registered:
        if (registered := find(self.function)) is None:
            msg = f"The step {why_missing([self.function])}."
            raise LookupError(msg)
        return registered

    def _check_pair(self, registered: Registered) -> None:
        """Refuse one function where a pair was recorded, and the other way round."""
        pair = self.is_fitted or bool(nnx.to_flat_state(nnx.state(self.state)))
        if pair == (registered.fit is not None):
            return
        recorded, given = ("a pair (fit, apply)", "one function") if pair else ("one function", "a pair")
        msg = f"The step {self.function!r} was recorded with {recorded}, but {given} of this name was passed."
        raise ValueError(msg)

    def _state(self) -> Any:
        state = {path[0]: self._on_host(variable[...]) for path, variable in nnx.to_flat_state(nnx.state(self.state))}
        return state["state"] if set(state) == {"state"} else state

    def _on_host(self, value: Any) -> Any:
        """An array of the state as a function in NumPy takes it; what is being differentiated stays with JAX."""
        return value if self.compiled or isinstance(value, jax.core.Tracer) else np.asarray(value)

    def _call(self, function: Any, state: tuple[Any, ...], inputs: Mapping[str, Any]) -> Any:
        settings = json.loads(self.settings)
        if self.positional:
            return function(*state, *inputs.values(), **settings)
        return function(*state, **inputs, **settings)

    def _taken(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Inputs as the function takes them: matrices in the storage that was recorded, a single column alone."""
        taken = {}
        for name, kind in self.reads:
            value = inputs[name]
            if self.sparse and isinstance(value, np.ndarray) and value.ndim == 2:
                value = sparse.csr_matrix(value)
            taken[name] = _own(next(iter(value.values())) if kind == "column" else value)
        return taken

    def _output(self, name: str, value: Any, n_rows: int) -> Any:
        """An array with a row a cell, text as codes."""
        if sparse.issparse(value):
            value = sparse.csr_matrix(value)
        elif not isinstance(value, jax.Array):
            value = np.asarray(value)
        if not getattr(value, "ndim", 0) or value.shape[0] != n_rows:
            msg = f"{name!r} of the function {self.function!r} must have a row for each of {n_rows} cells; got "
            raise ValueError(msg + _described(value) + ".")
        if value.dtype.kind in "OSUT":
            levels, codes = np.unique(value.astype(str), return_inverse=True)
            return Codes(codes.astype(np.int32), tuple(levels.tolist()))
        return value


def whole(inputs: Mapping[str, Any], rows: slice = slice(None), *, sparse: bool) -> dict[str, Any]:
    """Host inputs as arrays of all cells, or of some."""
    read = RowBlocks.rows if sparse else RowBlocks.dense
    return {
        name: read(in_own_dtype(x), rows) if isinstance(x, RowBlocks) else take(x, rows) for name, x in inputs.items()
    }


def _own(value: Any) -> Any:
    """An array that the function may change in place without changing the data."""
    if isinstance(value, dict):
        return {name: _own(part) for name, part in value.items()}
    return value.copy() if isinstance(value, np.ndarray) or sparse.issparse(value) else value


def _described(value: Any) -> str:
    if isinstance(value, Mapping):
        return f"a dict with {', '.join(map(repr, value)) or 'nothing'}"
    return f"an array of shape {value.shape}" if hasattr(value, "shape") else type(value).__name__


def _n_rows(inputs: Mapping[str, Any]) -> int:
    first = next(iter(inputs.values()))
    first = next(iter(first.values())) if isinstance(first, dict) else first
    return first.shape[0] if hasattr(first, "shape") else len(first)


INPUTS = {
    "genes": Input(kind="matrix", genes=True),
    "matrix": Input(kind="matrix"),
    "codes": Input(kind="codes"),
    "column": Input(kind="columns"),
    "columns": Input(kind="columns"),
}
"""What an input is recorded as -> what it is to the program."""


@cache
def _declared(reads: Pairs, writes: Pairs, *, host: bool, by_cell: bool) -> type[Operator]:
    """The class with these inputs and outputs."""
    inputs = {name: INPUTS[kind] for name, kind in reads}
    outputs = {name: Output(axis=axis, dtype=None, view=axis != "cells") for name, axis in writes}  # type: ignore[arg-type]
    body = {"inputs": inputs, "outputs": outputs, "host": host, "rowwise": by_cell}
    return type(Function.__name__, (Function,), {**body, "__module__": __name__, "__qualname__": Function.__qualname__})
