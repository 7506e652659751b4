"""Apply a recorded program again: to the cells it was fitted on, or to new ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from dbx.ops.checks import as_names
from dbx.program import log
from dbx.program.compat import own_copy
from dbx.program.record.commit import commit
from dbx.program.record.registry import Registry, load
from dbx.program.record.run import Result
from dbx.program.replay.arguments import check_mappings, take_functions
from dbx.program.replay.container import like_the_query
from dbx.program.replay.cut import (
    become,
    check_filter_cells,
    check_settings_of_filters,
    cut,
    filters_to_run,
    marks,
    say_what_does_not_pass,
)
from dbx.program.replay.location import Location
from dbx.program.replay.running import Run
from dbx.program.replay.settings import with_settings
from dbx.program.replay.settling import settle, warn_of_own_program
from dbx.program.replay.start import Start, start_of
from dbx.program.slots.slots import Slot, holder
from dbx.program.slots.writing import check_writable

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def rerun(
    adata: AnnData | MuData,
    reference: AnnData | MuData | None = None,
    *,
    steps: Iterable[str] | None = None,
    refit: bool | Literal["continue"] = False,
    missing_genes: Literal["raise", "zero"] = "raise",
    inputs: Mapping[str, str] | None = None,
    config: Mapping[str, Mapping[str, Any]] | None = None,
    functions: Mapping[str, Any] | None = None,
    start: str | None = None,
    partial: bool = False,
    filter_cells: bool | None = None,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Run a recorded program again, on the cells it was fitted on or on new ones.

    Genes are matched by name, categories by level. Steps that place cells among others (neighbours, layouts,
    partitions) place new cells among the reference's, which stays as it is; tests and DE tables are not repeated on
    new cells.

    Parameters
    ----------
    adata
        The cells to run the program on. New cells are in the state the program started from (usually raw counts, in X
        or a layer), or hold what one of its steps writes, on the reference's scale, which is recognised.
    reference
        The AnnData that holds the program and the cells it was fitted on; None if that is ``adata`` itself.
    steps
        Names of the steps wanted (see :func:`dbx.steps`), all by default; what they need of others comes along.
    refit
        Fit every step again on ``adata`` instead of applying what was learnt; with ``"continue"`` steps that can
        (``vae_normalize``) go on from the parameters they have, and a warning names the others.
    missing_genes
        What to do where ``adata`` lacks genes of the program: ``"raise"`` an error that names them, or take them as
        ``"zero"``, with a warning of how many there are.
    inputs
        Where an input is that is not in its slot any more: ``{"X": "layers/counts"}``.
    config
        New settings of steps, by name: ``{"de": {"contrast": ("cell", "b", "a")}}``. Such a step keeps what it learnt
        if its fit does not depend on these settings, and is fitted again otherwise; the steps after it, which learnt
        from what it wrote, are fitted again too. Only on the cells it was fitted on.
    functions
        Functions of steps that :func:`dbx.step` recorded, by name: ``{"name": f}`` or ``{"name": (fit, apply)}``. They
        are registered as by :func:`dbx.register_step`.
    start
        Name of a step, such as ``"log1p"``: new cells already hold what it writes, in its slot or where ``inputs``
        says, and are mapped by the steps after it. Values on another scale are refused as far as they tell.
    partial
        Go as far as the cells can: steps that cannot run, because they read what was computed outside dbx or what the
        cells lack, are left out, and a warning says which and why. Otherwise such a step is an error for new cells.
    filter_cells
        What to do with new cells that do not pass the filters of the program (``pp.filter_cells``): True removes them,
        and genes that ``pp.filter_genes`` removed; False marks cells in ``obs["dbx_passed"]``. None, the default,
        removes them from a copy (``copy=True``) and marks them otherwise. Steps that look at all new cells, such as the
        correction of a new batch, see only those that are left.
    copy
        Return a copy instead of writing into ``adata``.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes the slots that the steps wrote on the reference. For new cells the
    graph to the reference cells is in ``obsm["reference_connectivities"]`` and ``obsm["reference_distances"]``, CSR
    matrices of shape (n_cells, n_reference_cells), with a digest of the reference's cell names in
    ``uns["reference_cells"]``; X is not written where ``adata`` has genes that the program does not know.

    Raises
    ------
    ValueError
        There is no program; a wanted step is stale, or an input was computed or changed outside dbx (see ``partial``);
        genes are missing or doubled;
        a category is unknown; the cells are not in the state the program starts from, or have no counts where a step
        needs some; there is no such setting; no new cell passes the filters.
    NotImplementedError
        Cells of a MuData would be removed in place, or cells of data on disk.
    """
    if refit not in (True, False, "continue"):
        msg = f'refit must be True, False or "continue", not {refit!r}.'
        raise ValueError(msg)
    if missing_genes not in ("raise", "zero"):
        msg = f'missing_genes must be "raise" or "zero", not {missing_genes!r}.'
        raise ValueError(msg)
    check_mappings(inputs=inputs, config=config, functions=functions)
    holder(adata, Slot("obs"))
    data = own_copy(adata, copy=copy)
    own = reference is None or reference is adata
    check_filter_cells(filter_cells, own=own)
    removes = not own and bool(copy if filter_cells is None else filter_cells)
    registry = _program(data, reference, own=own)
    take_functions(registry, functions or {})
    if not own:
        reference, registry = like_the_query(data, reference, registry)
    changed = with_settings(registry, config or {}, own=own)
    check_settings_of_filters(changed.values())
    begin = _begin(data, reference, registry, start, inputs or {}, own=own, missing_genes=missing_genes)
    location = Location(data, registry, dict(inputs or {}), own=own, start=begin)
    run = Run(registry, None if own else reference, location, begin, changed, refit, missing_genes)
    steps = None if steps is None else as_names(steps, "steps")
    filters = filters_to_run(registry, run.planned, must=bool(filter_cells)) if removes else []
    plan = run.planned(steps if steps is None else [*steps, *filters])
    location.check_inputs()
    without = settle(run, plan, data, named=steps is not None, partial=partial)
    whole, target, marked = data, data, {}
    if removes:
        marked = marks(run.results(run.planned(filters), data, data))
        whole, target = cut(data, registry, marked, copy=copy)
    results = run.results(plan, whole, target)
    if not own:
        marked = marked if removes else marks(results)
        results += run.selections(plan, target)
    values = {slot: value for result in sorted(results, key=_time) for slot, value in result.values.items()}
    if not removes:
        values |= marked
    check_writable(target, values)
    if begin is not None:
        begin.say(plan)
    if without is not None:
        log.warn(without)
    if not own:
        warn_of_own_program(data, registry)
    commit(target, Registry(run.recorded(plan, results, target)), values)
    say_what_does_not_pass(marked, removed=removes)
    if copy:
        return target
    become(data, target)
    return None


def _time(result: Result) -> int:
    return result.step.at


def _program(data, reference, *, own: bool) -> Registry:
    """The program to run, for data that are not empty."""
    registry = load(data if own else reference)
    if not len(registry):
        if not own and len(load(data)):
            msg = "reference has no program, but adata has one: the new cells come first, dbx.rerun(query, reference)."
            raise ValueError(msg)
        raise ValueError(_no_program("adata" if own else "reference"))
    if not data.n_obs or (not data.n_vars and any(step.genes is not None for step in registry)):
        msg = f"adata is empty: {data.n_obs} cells x {data.n_vars} genes."
        raise ValueError(msg)
    return registry


def _begin(data, reference, registry: Registry, start: str | None, inputs, *, own: bool, missing_genes) -> Start | None:
    """Where new cells start."""
    if not own:
        places = {Slot.parse(slot): Slot.parse(place) for slot, place in inputs.items()}
        return start_of(data, reference, registry, start, places, missing_genes=missing_genes)
    if start is not None:
        msg = "start= is for new cells: the program's own cells start at the earliest version that is still there."
        raise ValueError(msg)
    return None


def _no_program(name: str) -> str:
    return (
        f"No program is recorded in {name}.uns['dbx']. Run dbx.pp and dbx.tl steps on it first, or dbx.adopt({name}) "
        "if scanpy computed its results. ad.concat drops it: rerun on the parts, or on the whole with reference=."
    )
