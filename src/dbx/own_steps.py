"""Steps that compute a function of the user's own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.ops.user.functions import find, register
from dbx.ops.user.tried import made, tried
from dbx.program import Slot, read, run_step
from dbx.program.compat import own_copy
from dbx.program.log import warn
from dbx.program.record.inputs import gather
from dbx.program.record.registry import load

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

Functions = Callable[..., Any] | tuple[Callable[..., Any], Callable[..., Any]]


def step(
    adata: AnnData | MuData,
    function: Functions,
    *,
    reads: str | Mapping[str, str | Sequence[str]],
    writes: str | Mapping[str, str],
    name: str | None = None,
    copy: bool = False,
    mod: str | None = None,
    **settings: Any,
) -> AnnData | MuData | None:
    """Apply a function of your own and record it as a step of the program.

    It is shown by :func:`dbx.steps`, and :func:`dbx.rerun` applies it to new cells in its place between the other
    steps. The program stores its name, its settings and what it fitted, never its code: in another process pass it
    again, ``dbx.rerun(query, reference, functions={"name": f})``, or register it, :func:`dbx.register_step`.

    Parameters
    ----------
    adata
        Annotated data.
    function
        A function of arrays, in NumPy or JAX, or a pair ``(fit, apply)``: ``fit(**inputs, **settings)`` returns an
        array or a dict of arrays, which are kept, and ``apply(state, **inputs, **settings)`` the result. A function
        that computes with ``jax.numpy`` is compiled, and gradients pass through it.
    reads
        Slot that it reads, such as ``"X"``, ``"layers/counts"``, ``"obsm/X_pca"`` or ``"obs/batch"``, passed as the
        first argument; or a dict from the names of its arguments to slots, or to lists of columns of ``obs``. X, layers
        and ``obsm`` are passed as arrays of shape (n_cells, n_columns), or CSR as they are stored if the function takes
        that; numbers in ``obs`` as arrays of shape (n_cells,), other columns as :class:`dbx.ops.Codes`, and lists of
        columns as a dict of these.
    writes
        Slot that its result is written to, with a row for each cell; or a dict from names to slots, for a function that
        returns a dict. Slots of ``var``, ``varm`` and ``uns`` name what ``fit`` returned.
    name
        Name of the step; by default that of the function.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.
    **settings
        Further arguments of the function: numbers, texts, lists or dicts of them.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes the slots that ``writes`` names, and the step.

    Raises
    ------
    TypeError
        ``function`` is no function or pair of functions; a setting is not a plain value.
    ValueError
        A lambda has no name; a slot cannot be read or written by a function of cells; the result has another number of
        rows than there are cells.

    Examples
    --------
    >>> import numpy as np
    >>> import dbx
    >>> adata = dbx.datasets.simulate(n_cells=60, n_genes=40, n_groups=2, n_batches=2)
    >>> dbx.step(adata, np.sqrt, reads="X", writes="layers/sqrt", name="sqrt")
    >>> "sqrt" in adata.layers
    True
    """
    data = own_copy(adata, copy=copy)
    name = name or _name_of(function)
    sources, targets = _slots_by_name(reads, "reads", "x"), _slots_by_name(writes, "writes", "result")
    kinds = {argument: _kind(data, argument, slots, mod) for argument, slots in sources.items()}
    axes = {output: _axis(slot, mod) for output, slot in targets.items()}
    if "cells" not in axes.values():
        msg = "`writes` must name at least one slot of cells: X, layers/..., obsm/... or obs/..."
        raise ValueError(msg)
    before = find(name)
    registered = register(name, function)
    try:
        config = {
            "function": name,
            "reads": tuple(kinds.items()),
            "writes": tuple(axes.items()),
            "settings": _as_json(name, settings),
            "positional": isinstance(reads, str),
            "digest": registered.digest,
        }
        given = gather(data, load(data), made(config), sources, mod=mod, title=name)
        operator = tried(config, given.fit, given.call, given.n_cells)
        run_step(data, operator, reads=sources, writes=targets, name=name, mod=mod)
    except BaseException:
        if before is not None:
            register(name, before.apply if before.fit is None else (before.fit, before.apply))
        raise
    if not operator.by_cell:
        warn(
            f"{name!r} gives a cell another result when it is computed with fewer cells: on new cells it will compare "
            "them with each other, not with these. Pass a pair (fit, apply) to keep what it learns from these cells."
        )
    return data if copy else None


def register_step(name: str, function: Functions) -> None:
    """Keep a function for this session, for programs in which :func:`dbx.step` recorded it under this name.

    Parameters
    ----------
    name
        The name under which it was recorded.
    function
        The function, or the pair ``(fit, apply)``.

    Raises
    ------
    TypeError
        It is neither a function nor a pair of functions.

    Examples
    --------
    >>> import dbx
    >>> dbx.register_step("halved", lambda x: x / 2)
    """
    register(name, function)


def _name_of(function: Any) -> str:
    if not callable(function) and not isinstance(function, tuple | list):
        msg = f"`function` must be a function of arrays, or a pair of functions (fit, apply); got {function!r}."
        raise TypeError(msg)
    given = getattr(function, "__name__", "<lambda>")
    if given == "<lambda>":
        msg = 'A lambda or a pair of functions has no name: pass name="...".'
        raise ValueError(msg)
    return given


def _slots_by_name(slots: Any, argument: str, default: str) -> dict[str, Any]:
    """The slots of ``reads`` or ``writes`` by the names that the function knows."""
    if isinstance(slots, str):
        return {default: slots}
    kinds = (str, list, tuple) if argument == "reads" else (str,)
    if not isinstance(slots, Mapping) or not all(isinstance(slot, kinds) for slot in slots.values()):
        msg = f"`{argument}` must be a slot, such as 'X' or 'obsm/X_pca', or a dict from names to slots; got {slots!r}."
        raise TypeError(msg)
    return dict(slots)


def _kind(data, argument: str, slots: str | Sequence[str], mod: str | None) -> str:
    """What an argument is recorded as."""
    several = [slots] if isinstance(slots, str) else list(slots)
    parsed = [Slot.parse(slot, mod) for slot in several]
    if not parsed or any(slot.container not in ("X", "raw", "layers", "obsm", "obs") for slot in parsed):
        msg = (
            f"{argument!r} must read X, raw/X, layers/..., obsm/... or obs/...; got {', '.join(several) or 'nothing'}."
        )
        raise ValueError(msg)
    if not isinstance(slots, str):
        if any(slot.container != "obs" for slot in parsed):
            msg = f"A list of slots must be columns of obs; got {', '.join(several)} for {argument!r}."
            raise ValueError(msg)
        return "columns"
    (slot,) = parsed
    value = read(data, slot)
    if slot.container == "obs":
        return "column" if pd.api.types.is_float_dtype(value) or pd.api.types.is_integer_dtype(value) else "codes"
    return "genes" if slot.is_gene_matrix else "matrix"


def _axis(slot: str, mod: str | None) -> str:
    parsed = Slot.parse(slot, mod)
    if parsed.container in ("raw", "obsp", "varp"):
        msg = f"A step cannot write {slot}, only X, layers/..., obsm/..., obs/..., var/..., varm/... and uns/..."
        raise ValueError(msg)
    return parsed.axis


def _as_json(name: str, settings: Mapping[str, Any]) -> str:
    try:
        return json.dumps(
            {key: value.item() if isinstance(value, np.generic) else value for key, value in settings.items()}
        )
    except TypeError:
        msg = f"Settings of the step {name!r} must be numbers, texts, lists or dicts; arrays are kept by `fit`."
        raise TypeError(msg) from None
