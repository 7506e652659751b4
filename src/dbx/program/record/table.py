"""The recorded program as a table."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

import pandas as pd

from dbx.ops.catalogue import CATALOGUE
from dbx.program.record.holes import reach
from dbx.program.record.listing import Steps
from dbx.program.record.registry import Registry, load
from dbx.program.record.step import Step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

COLUMNS = ["operator", "reads", "writes", "settings", "learnt", "trained", "cells", "status"]


def steps(adata: AnnData | MuData) -> Steps:
    """The steps recorded in ``adata``, in the order they ran.

    Parameters
    ----------
    adata
        The annotated data.

    Returns
    -------
    A DataFrame that shows itself within 100 columns, or as a table in a notebook, with a sentence below on how far new
    cells can go; ``to_frame()`` shows all columns. It
    has a row for each step, indexed by its name: its operator; the slots it reads, each with the step that wrote what
    was read; the slots it writes; settings that differ from the defaults; how many numbers it learnt; the loss by which
    :func:`dbx.optimize` trained it since; how many cells it saw; and its status: ``"ok"``, ``"stale"`` (an input was
    computed again since), ``"gap"`` (an input was changed outside dbx after a step wrote it), ``"outside"`` (an input
    was computed outside dbx) or ``"mapped"`` (fitted on other cells and applied to these).

    Raises
    ------
    dbx.program.RegistryError
        The program in ``adata.uns["dbx"]`` is damaged.
    """
    registry = load(adata)
    rows = [_row(registry, step) for step in registry]
    table = Steps(rows, columns=COLUMNS, index=pd.Index([step.name for step in registry], name="step"))
    table.note = reach(registry)
    return table


def status(registry: Registry, step: Step) -> str:
    """ok, stale, gap, outside or mapped."""
    if registry.stale(step):
        return "stale"
    if any(read.gap for read in step.reads.values()):
        return "gap"
    if any(read.outside for read in step.reads.values()):
        return "outside"
    return "mapped" if step.mapped else "ok"


def _row(registry: Registry, step: Step) -> dict[str, object]:
    return {
        "operator": step.operator,
        "reads": ", ".join(_reads(registry, step)),
        "writes": ", ".join(step.writes.values()),
        "settings": ", ".join(f"{name}={value!r}" for name, value in _changed(step).items()),
        "learnt": sum(array.size for _, array in step.arrays.values()),
        "trained": step.trained.get("loss", ""),
        "cells": step.n_cells,
        "status": status(registry, step),
    }


def _reads(registry: Registry, step: Step) -> list[str]:
    texts = []
    for read in step.reads.values():
        source = registry.by_id(read.source)
        origin = source.name if source else read.gap and f"changed after {read.gap}"
        origin = "from outside" if read.outside else origin
        origin = f"{origin}, first {read.first} columns" if read.first else origin
        texts += [f"{slot} ({origin})" if origin else slot for slot in read.slots]
    return texts + ([step.select] if step.select else [])


def _changed(step: Step) -> dict[str, object]:
    """Settings that differ from the operator's defaults."""
    if step.operator not in CATALOGUE:
        return dict(step.config)
    given = inspect.signature(step.operator_class.__init__).parameters.values()
    parameters = {parameter.name: parameter.default for parameter in given}
    shown = step.operator_class.listed(step.config)
    return {k: v for k, v in shown.items() if k not in parameters or _plain(parameters[k]) != v}


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
