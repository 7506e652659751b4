"""The one function a wrapper calls: read slots, fit, apply, then write and record, or leave everything as it was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.operator import Operator
from dbx.ops.state import rebuild
from dbx.program import compat, log
from dbx.program.record.commit import commit
from dbx.program.record.cut import Drawn, keep, passing, remove
from dbx.program.record.holes import warn_of_holes, warn_of_removed_cells
from dbx.program.record.inputs import Gathered, gather
from dbx.program.record.outputs import as_dtype, stored, views
from dbx.program.record.prints import same_value, untouched
from dbx.program.record.recording import new_step
from dbx.program.record.registry import Registry, load
from dbx.program.record.step import Step
from dbx.program.slots.checks import check_not_empty
from dbx.program.slots.genes import gene_array
from dbx.program.slots.slots import Slot, gene_names, holder
from dbx.program.slots.writing import check_writable

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@dataclass
class Result:
    """A computed step, nothing of it written yet."""

    operator: Operator
    outputs: dict[str, Any]
    """Every output by name, views included."""
    values: dict[Slot, Any]
    step: Step


def run_step(
    data: AnnData | MuData,
    operator: Operator,
    *,
    reads: Mapping[str, str | Sequence[str]],
    writes: Mapping[str, str],
    constants: Mapping[str, Any] | None = None,
    names: Mapping[str, str] | None = None,
    select: str | np.ndarray | None = None,
    name: str | None = None,
    fit_with: Mapping[str, Any] | None = None,
    seed: int = 0,
    copy: bool = False,
    mod: str | None = None,
    resume: bool = False,
    cut: bool | Drawn = False,
) -> AnnData | MuData | None:
    """Fit an operator on slots, apply it, write its outputs and record the step.

    ``reads`` and ``writes`` say which slots its inputs and outputs are; an output without a slot is not written.
    ``constants`` are plain values that are also written (slot -> value), which its inputs may name too, ``names`` slots
    with the names of the columns of inputs in ``obsm`` that are no DataFrame, ``select`` the boolean gene mask (a slot
    or an array) that restricts its gene matrices, ``mod`` the modality of every slot. ``fit_with`` are arguments of
    this fit alone, which are not recorded.
    With ``resume`` the fit goes on from the state of a recorded step that was fitted alike on the same input. With
    ``cut`` the cells and genes that do not pass (outputs declared ``passes``), or were not drawn, are removed.
    Everything is computed before anything is assigned, and assigned whole or not at all.
    """
    data = compat.own_copy(data, copy=copy)
    registry = load(data)
    result = compute(
        data,
        registry,
        operator,
        reads=reads,
        writes=writes,
        constants=constants,
        names=names,
        select=select,
        name=name,
        fit_with=fit_with,
        seed=seed,
        mod=mod,
        resume=resume,
    )
    then = None
    if isinstance(cut, Drawn):
        then = partial(keep, data, mod, cut)
    elif cut:
        then = partial(remove, data, mod, passing(result.operator, result.outputs), result.step.name)
    left = untouched(data, registry.replace(result.step))
    registry.record(result.step)
    commit(data, registry, result.values, then, left)
    return data if copy else None


def compute_step(
    data: AnnData | MuData,
    operator: Operator,
    *,
    reads: Mapping[str, str | Sequence[str]],
    select: str | np.ndarray | None = None,
    seed: int = 0,
    mod: str | None = None,
) -> dict[str, Any]:
    """The outputs of a step by name, with nothing written or recorded (``inplace=False``)."""
    result = compute(data, load(data), operator, reads=reads, writes={}, select=select, seed=seed, mod=mod)
    return result.outputs


def compute_array(operator: Operator, *, x, seed: int = 0) -> dict[str, Any]:
    """Outputs and views for a plain array of shape (n_cells, n_genes): computed, not recorded."""
    check_not_empty(x)
    blocks = RowBlocks(x, dtype=np.float64 if operator.precision == "float64" else np.float32)
    operator.fit(x=blocks, seed=seed)
    return {**apply(operator, {"x": blocks}, blocks.n_rows), **views(operator)}


def compute(
    data,
    registry: Registry,
    operator,
    *,
    reads,
    writes,
    constants=None,
    names=None,
    select=None,
    name=None,
    fit_with=None,
    seed=0,
    mod=None,
    resume=False,
) -> Result:
    """Fit and apply an operator; the result is not written yet."""
    constants = {Slot.parse(slot, mod): value for slot, value in (constants or {}).items()}
    title = name or operator.name
    CATALOGUE.provider(type(operator))  # another operator's name is refused before a long fit
    given = gather(
        data, registry, operator, reads, select=select, constants=constants, names=names, mod=mod, title=title
    )
    if writes:
        maps_cells = any(not operator.outputs[output].view for output in writes)
        warn_of_holes(title, given.reads, maps_cells=maps_cells)
        warn_of_removed_cells(registry, given.reads, given.n_cells)
    if not given.reads:
        owner = holder(data, Slot("obs", mod=mod))
        given.n_cells = owner.n_obs
        if any(output.passes and output.axis == "genes" for output in operator.outputs.values()):
            given.genes = gene_array(owner.var_names)
    slots = {key: Slot.parse(address, mod) for key, address in writes.items()}
    made = next((slot for slot in slots.values() if slot.is_gene_matrix), None)
    if given.genes is None and made is not None and gene_names(data, made).is_unique:
        given.genes = gene_array(gene_names(data, made))  # of values that were made of others than genes
    check_writable(data, [*slots.values(), *constants])  # before a long training, not after
    if resume:
        operator = resumed(registry, operator, given, seed)
    with log.timed(f"computing {title}"), log.progress(title) as show:
        operator.fit(**given.fit, **(fit_with or {}), seed=seed, progress=show)
        outputs = {**apply(operator, given.call, given.n_cells), **views(operator)}
    outputs = {key: as_dtype(value, operator.outputs[key]) for key, value in outputs.items()}
    values = {slot: stored(data, operator.outputs[key], outputs[key], slot, given) for key, slot in slots.items()}
    step = new_step(
        data,
        registry,
        operator,
        name=title,
        seed=seed,
        reads=given.reads,
        writes=slots,
        values=values,
        outside=given.outside,
        n_cells=given.n_cells,
        genes=given.genes,
        select=Slot.parse(select, mod) if isinstance(select, str) else None,
        select_source=given.select_source,
        constants=constants,
        places=given.places,
    )
    return Result(operator, outputs, {**values, **constants}, step)


def resumed(registry: Registry, operator: Operator, given: Gathered, seed: int) -> Operator:
    """The operator with the state of the last step that was fitted alike on the same input, if there is one."""
    for step in registry.latest_first():
        if step.operator != operator.name or step.mapped or step.seed != seed or dict(step.reads) != given.reads:
            continue
        recorded = step.build()
        same_genes = step.genes is given.genes or np.array_equal(np.asarray(step.genes), np.asarray(given.genes))
        same_input = all(
            same_value(slot, step.fingerprints.get(slot), print_) for slot, print_ in given.outside.items()
        )
        if recorded.fit_config == operator.fit_config and same_genes and same_input and step.n_cells == given.n_cells:
            log.info(f"Going on from the fit of step {step.name!r}: neither its settings nor its input changed.")
            return rebuild(type(operator), operator.config, step.arrays)
    return operator
