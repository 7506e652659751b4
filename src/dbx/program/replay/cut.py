"""Cells and genes that the filters of a program remove, on new cells: removed or marked."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pandas as pd

from dbx.program import log
from dbx.program.record.cut import passing
from dbx.program.record.registry import Registry
from dbx.program.record.run import Result
from dbx.program.record.step import Step
from dbx.program.replay.plan import Plan, excluded_text
from dbx.program.slots.slots import Slot, holder, row_names

PASSED = "dbx_passed"
"""Column of ``obs`` that marks the new cells which pass all filters."""


def check_filter_cells(filter_cells: Any, *, own: bool) -> None:
    """Refuse other values than True, False and None, and True on the cells that the program was fitted on."""
    if filter_cells not in (True, False, None):
        msg = f"filter_cells must be True, False or None; got {filter_cells!r}."
        raise ValueError(msg)
    if filter_cells and own:
        msg = (
            "filter_cells=True is for new cells, dbx.rerun(query, reference, filter_cells=True): the cells that the "
            "program was fitted on were filtered when its steps ran."
        )
        raise ValueError(msg)


def check_settings_of_filters(changed: Iterable[Step]) -> None:
    """Refuse other thresholds for cells or genes that were removed already."""
    for step in changed:
        if step.filters("cells") or step.filters("genes"):
            msg = (
                f"Step {step.name!r} removed cells or genes, so that another setting of it cannot be tried on what is "
                "left: start again from the unfiltered data, or call the filter once more with a stricter threshold."
            )
            raise ValueError(msg)


def filters_to_run(registry: Registry, planned: Callable[[list[str]], Plan], *, must: bool) -> list[str]:
    """Names of the cell filters that new cells can be tried on; all where they ``must`` be.

    Raises
    ------
    ValueError
        One that must run cannot.
    """
    filters = cell_filters(registry)
    excluded = planned(filters).excluded if filters else {}
    if must and excluded:
        name, reason = next(iter(excluded.items()))
        msg = (
            f"New cells cannot be filtered as the reference was: step {name!r} cannot run, because {reason}. Pass "
            "cells with all genes, or filter_cells=False."
        )
        raise ValueError(msg)
    return [name for name in filters if name not in excluded]


def without_metrics(registry: Registry, plan: Plan, *, own: bool) -> None:
    """Take from a plan's excluded steps metrics and filters of genes or counts that are not there; the rest runs."""
    if not plan.steps:
        return
    gone: dict[str, str] = {}
    lacking = {slot for slot in plan.missing if slot.is_gene_matrix}
    for name, reason in plan.excluded.items():
        step = registry[name]
        before = {registry[other].id for other in gone}
        if step.only_columns() and (name in plan.of_more_genes or step.sources() & before or _slots(step) & lacking):
            gone[name] = reason
    plan.excluded = {name: reason for name, reason in plan.excluded.items() if name not in gone}
    plan.missing = {slot: name for slot, name in plan.missing.items() if name not in gone}
    if gone and own:
        log.info(f"Steps that stay as they are, because genes were removed since: {', '.join(gone)}.")
    elif gone:
        log.warn(f"{excluded_text(gone)} The other steps run without them.")


def _slots(step: Step) -> set[Slot]:
    return {slot for read in step.reads.values() for slot in read.slots}


def cell_filters(registry: Registry) -> list[str]:
    """Names of the steps that remove cells."""
    return [step.name for step in registry if step.filters("cells")]


def kept_genes(registry: Registry, mod: str | None, *, after: int = 0) -> pd.Index | None:
    """Names of the genes that the last gene filter of a modality kept; None without one that ran ``after``."""
    filters = [step for step in registry if step.filters("genes") and step.mod == mod and step.at > after]
    if not filters:
        return None
    last = max(filters, key=lambda step: step.at)
    operator = last.build()
    views = {name: getattr(operator, name)[...] for name, out in operator.outputs.items() if out.passes and out.view}
    return pd.Index(np.asarray(last.genes)[passing(operator, views).genes])


def marks(results: Iterable[Result]) -> dict[Slot, np.ndarray]:
    """Column of ``obs``, in each modality that has filters, -> whether each cell passes all of them."""
    found: dict[Slot, np.ndarray] = {}
    for result in results:
        cells = passing(result.operator, result.outputs).cells
        if cells is not None:
            slot = Slot("obs", (PASSED,), result.step.mod)
            found[slot] = found.get(slot, True) & cells
    return found


def say_what_does_not_pass(marked: dict[Slot, np.ndarray], *, removed: bool) -> None:
    """One message of how many new cells do not pass the program's filters, and what was done about them."""
    failed, total = (sum(int(count(mask)) for mask in marked.values()) for count in (lambda m: (~m).sum(), len))
    if not marked:
        return
    what = f"{failed} of {total} new cells do not pass the filters of the program"
    if removed or not failed:
        log.info(f"{what}{': they are removed' if failed else ''}.")
        return
    where = " and ".join(slot.written("query") for slot in marked)
    log.warn(f"{what}: they are marked in {where}. To remove them: dbx.rerun(query, reference, filter_cells=True).")


def cut(data: Any, registry: Registry, marked: dict[Slot, np.ndarray], *, copy: bool) -> tuple[Any, Any]:
    """(the cells that pass with all their genes, a copy of them with the genes that are kept).

    Both are ``data`` itself where nothing is to be removed.

    Raises
    ------
    ValueError
        No cell passes.
    NotImplementedError
        Cells of a MuData would be removed in place, or cells of data on disk.
    """
    genes = {mod: kept_genes(registry, mod) for mod in dict.fromkeys(step.mod for step in registry)}
    gone = {mod: names for mod, kept in genes.items() if len(names := _others(data, mod, kept))}
    if all(mask.all() for mask in marked.values()) and not gone:
        return data, data
    _check_can_be_cut(data, copy=copy)
    kept = np.ones(data.n_obs, bool)
    for slot, mask in marked.items():
        if not mask.any():
            msg = (
                f"None of the {len(mask)} new cells passes the filters {', '.join(cell_filters(registry))} of the "
                "program. filter_cells=False marks them instead."
            )
            raise ValueError(msg)
        kept &= ~data.obs_names.isin(row_names(data, slot)[~mask])
    whole = data if kept.all() else data[kept].copy()
    return whole, whole[:, ~_at(whole, gone)].copy()


def _others(data: Any, mod: str | None, kept: pd.Index | None) -> pd.Index:
    """Names of the genes that are not kept."""
    if kept is None:
        return pd.Index([])
    names = holder(data, Slot("var", mod=mod)).var_names
    return names[~names.isin(kept)]


def _at(data: Any, gone: dict[str | None, pd.Index]) -> np.ndarray:
    """Whether each column is one of the genes that go, an array of shape (n_vars,), bool."""
    at = np.zeros(data.n_vars, bool)
    for mod, names in gone.items():
        at |= data.var_names.isin(names) & (True if mod is None else np.asarray(data.varm[mod], bool).ravel())
    return at


def _check_can_be_cut(data: Any, *, copy: bool) -> None:
    if hasattr(data, "mod") and not copy:
        msg = (
            "Cells of a MuData are removed in a copy only: pass copy=True, or filter_cells=False to mark them in "
            f"obs[{PASSED!r}]."
        )
        raise NotImplementedError(msg)
    if getattr(data, "isbacked", False):
        msg = (
            f"Cells of data on disk ({data.filename}) cannot be removed. Load them first: query = query.to_memory(); "
            f"or pass filter_cells=False to mark them in obs[{PASSED!r}]."
        )
        raise NotImplementedError(msg)


def become(data: Any, other: Any) -> None:
    """Make an AnnData in place what another one is."""
    if data is not other:
        data._init_as_actual(other)
