"""Apply a recorded program again: to the cells it was fitted on, or to new ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from dbx.ops.checks import listed
from dbx.ops.user.functions import register
from dbx.program import log
from dbx.program.compat import own_copy
from dbx.program.record.commit import commit
from dbx.program.record.registry import Registry, load, same_outputs, same_state
from dbx.program.record.run import Result
from dbx.program.record.step import Step
from dbx.program.replay.container import like_the_query
from dbx.program.replay.cut import (
    become,
    check_filter_cells,
    check_settings_of_filters,
    cut,
    filters_to_run,
    marks,
    say_what_does_not_pass,
    without_metrics,
)
from dbx.program.replay.holes import check_whole, left_out, warn_of_own_values
from dbx.program.replay.location import Location
from dbx.program.replay.mapping import is_selection, kept, mapped, refitted
from dbx.program.replay.plan import Plan, excluded_text, make_plan
from dbx.program.replay.replay import Replay
from dbx.program.replay.settings import with_settings
from dbx.program.replay.start import start_of, steps_before, without_held
from dbx.program.replay.unmapped import say_what_is_not_mapped
from dbx.program.slots.slots import Slot, exists, holder
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
    for name, function in (functions or {}).items():
        register(name, function)
    data = own_copy(adata, copy=copy)
    own = reference is None or reference is adata
    check_filter_cells(filter_cells, own=own)
    removes = not own and (copy if filter_cells is None else filter_cells)
    registry = load(data if own else reference)
    if not len(registry):
        raise ValueError(_no_program("adata" if own else "reference"))
    if not data.n_obs or (not data.n_vars and any(step.genes is not None for step in registry)):
        msg = f"adata is empty: {data.n_obs} cells x {data.n_vars} genes."
        raise ValueError(msg)
    if not own:
        reference, registry = like_the_query(data, reference, registry)
    steps = [steps] if isinstance(steps, str) else steps
    changed = with_settings(registry, config or {}, own=own)
    check_settings_of_filters(changed.values())
    after = {step.name for step in registry if any(registry.depends(step, registry[name].id) for name in changed)}
    if start is not None and own:
        msg = "start= is for new cells: the program's own cells start at the earliest version that is still there."
        raise ValueError(msg)
    places = {Slot.parse(slot): Slot.parse(place) for slot, place in (inputs or {}).items()}
    begin = None if own else start_of(data, reference, registry, start, places, missing_genes=missing_genes)
    location = Location(data, registry, dict(inputs or {}), own=own, start=begin)

    def fits(step: Step) -> bool:
        return bool(refit) or step.name in changed or step.name in after

    def runs(step: Step) -> bool:
        return (fits(step) or step.maps_cells()) and (own or not step.filters("genes"))

    def planned(names: Iterable[str] | None) -> Plan:
        return make_plan(
            registry,
            location.available,
            names=names,
            runs=runs,
            skipped=begin.skipped if begin else None,
            genes_removed=location.genes_removed,
        )

    def run(plan: Plan, whole: AnnData | MuData, target: AnnData | MuData) -> list[Result]:
        """The steps, computed for the cells of ``whole`` and placed in ``target``, which may have fewer genes."""
        source = location.of(whole)
        replay = Replay(registry, _n_cells(whole, plan), missing_genes, reference=whole if own else reference)
        replay.env.update({version: source.value(version) for version in plan.roots})
        results: list[Result] = []
        for step in plan.steps:
            replay.n_cells = holder(whole, Slot("obs", mod=step.mod)).n_obs  # modalities may have other cells
            if fits(step):
                written = {slot: value for result in results for slot, value in result.values.items()}
                new = changed.get(step.name)
                # what it learnt was of other values
                step, new = (new or step, None) if step.name in after else (step, new)
                results.append(refitted(target, replay, step, written, new, keeps=refit == "continue"))
            else:
                results.append(mapped(target, target if own else reference, replay, step, own=own))
        return results

    filters = filters_to_run(registry, planned, must=bool(filter_cells)) if removes else []
    plan = planned(steps if steps is None else [*steps, *filters])
    location.check_inputs()
    if begin is not None:
        without_held(plan, registry, location, begin)
    if steps is None:
        without_metrics(registry, plan, own=own)
    without = left_out(registry, plan, location.available) if partial else None
    own_cells = own or (begin is not None and begin.own_cells is not None)
    if not partial:
        if not own_cells:
            check_whole(registry, plan, location.available)
        if not own:
            _check_nothing_is_missing(plan, data)
        if own_cells:
            _say_what_is_left_out(registry, plan, named=steps is not None)
    if begin is not None:
        warn_of_own_values(registry, begin.brought(plan.roots), location.inputs)
    if not own and steps is None:
        say_what_is_not_mapped(registry)
    if refit == "continue":
        _warn_of_new_starts(plan)
    if refit is not True:  # which asks for nothing else
        _warn_of_lost_training([step for step in plan.steps if fits(step)], continues=bool(refit))
    whole, target, marked = data, data, {}
    if removes:
        marked = marks(run(planned(filters), data, data))
        whole, target = cut(data, registry, marked, copy=copy)
    results = run(plan, whole, target)
    if not own:
        marked = marked if removes else marks(results)
        known = {step.name for step in plan.steps}
        others = [step for step in registry if step.name not in known and is_selection(step)]
        results += [kept(target, step) for step in others if not refit or step.filters("genes")]
    fitted_again = {step.name for step in plan.steps if fits(step)}
    again = _rewired(registry, [result.step for result in results], fitted_again)
    if begin is not None:
        begin.say(plan)
        again = steps_before(target, registry, plan, location.of(target)) | again
    steps_now = [again.get(step.name, step) for step in registry if own or step.name in again]
    in_time = sorted(results, key=lambda result: result.step.at)
    values = {slot: value for result in in_time for slot, value in result.values.items()}
    if not removes:
        values |= marked
    check_writable(target, values)
    if without is not None:
        log.warn(without)
    if not own:
        _warn_of_own_program(data, registry)
    commit(target, Registry(steps_now), values)
    say_what_does_not_pass(marked, removed=removes)
    if copy:
        return target
    become(data, target)
    return None


def _rewired(registry: Registry, steps: list[Step], fitted_again: set[str]) -> dict[str, Step]:
    """Name -> step, its reads following what earlier steps of the run wrote, into whichever slot.

    A step that was fitted again to another result is another version: what read the old one and did not run is stale.
    """
    others = [s.id for s in steps if s.name in fitted_again and not same_outputs(registry[s.name], s)]
    numbers: dict[int | None, int] = {old: registry.next_id() + i for i, old in enumerate(others)}
    moved: dict[tuple[int | None, Slot], Slot] = {
        (step.id, old): step.writes[name]
        for step in steps
        for name, old in registry[step.name].writes.items()
        if step.writes.get(name, old) != old
    }
    rewired = {}
    for step in steps:
        reads = {
            name: replace(
                read,
                slots=tuple(moved.get((read.source, slot), slot) for slot in read.slots),
                source=numbers.get(read.source, read.source),
            )
            for name, read in step.reads.items()
        }
        chooser = numbers.get(step.select_source, step.select_source)
        rewired[step.name] = replace(step, id=numbers.get(step.id, step.id), reads=reads, select_source=chooser)
    return rewired


def _no_program(name: str) -> str:
    return (
        f"No program is recorded in {name}.uns['dbx']. Run dbx.pp and dbx.tl steps on it first, or dbx.adopt({name}) "
        "if scanpy computed its results. ad.concat drops it: rerun on the parts, or on the whole with reference=."
    )


def _check_nothing_is_missing(plan: Plan, data) -> None:
    """New cells must have everything that the wanted steps start from."""
    if plan.missing:
        lacking = "; ".join(
            f"{slot.written()}{' as it was before any step' if exists(data, slot) else ''}, for {name!r}"
            for slot, name in plan.missing.items()
        )
        slot = next(iter(plan.missing))
        msg = (
            f"The new cells lack what the program starts from: {lacking}. Add it, name where it is "
            f'(inputs={{"{slot}": "..."}}), or choose steps that do without (steps=[...]).'
        )
        raise ValueError(msg)


def _warn_of_own_program(data, registry: Registry) -> None:
    lost = [step.name for step in load(data) if not step.mapped and not _is_step_of(registry, step)]
    if lost:
        log.warn(f"The mapped program replaces the one that the new cells had ({', '.join(lost)}).")


def _is_step_of(registry: Registry, step: Step) -> bool:
    """Whether a program has this very step, as a part of the reference brings it along."""
    known = registry.by_id(step.id)
    return known is not None and known.facts() == step.facts() and same_state(known, step)


def _warn_of_new_starts(plan: Plan) -> None:
    operators = {step.name: step.operator_class for step in plan.steps}
    anew = [name for name, operator in operators.items() if "history" in operator.outputs and not operator.resumes]
    if anew:
        log.warn(f"Steps that cannot go on from their parameters will start again: {', '.join(anew)}.")


def _warn_of_lost_training(fitted_again: list[Step], *, continues: bool) -> None:
    """Name the steps whose parameters from ``dbx.optimize`` are replaced by those of another fit."""
    lost = [s.name for s in fitted_again if s.trained and not (continues and s.operator_class.resumes)]
    if lost:
        log.warn(
            f"Steps that dbx.optimize trained are fitted again, and their trained parameters are lost: {listed(lost)}. "
            "To keep them, work on a copy (copy=True); to have them again, run dbx.optimize after this."
        )


def _say_what_is_left_out(registry: Registry, plan: Plan, *, named: bool) -> None:
    if plan.excluded and (named or not plan.steps):
        raise ValueError(excluded_text(plan.excluded))
    if plan.excluded:
        starts = ", ".join(
            f"{version.slot} as {step.name!r} wrote it"
            for version in plan.roots
            for step in registry
            if step.id == version.writer
        )
        log.warn(excluded_text(plan.excluded) + (f" Starting from {starts}." if starts else ""))


def _n_cells(data, plan: Plan) -> int:
    mod = next((step.mod for step in plan.steps), None)
    return holder(data, Slot("obs", mod=mod)).n_obs
