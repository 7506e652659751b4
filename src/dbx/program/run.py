"""The one function a wrapper calls: read slots, fit, apply, then write and record, or leave everything as it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from dbx._version import __version__
from dbx.data.blocks import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.operator import Operator, Output, plain
from dbx.ops.state import rebuild, state_arrays
from dbx.ops.values import Codes, Graph
from dbx.program import compat, log
from dbx.program.fingerprint import same, slot_fingerprint
from dbx.program.gather import Gathered, axis_names, gather, original
from dbx.program.names import name_hashes, row_digests
from dbx.program.registry import KEY, Registry, load
from dbx.program.slots import Slot, as_stored, assign, check_writable, holder, read, row_names
from dbx.program.step import Read, Step

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
    select: str | np.ndarray | None = None,
    name: str | None = None,
    seed: int = 0,
    copy: bool = False,
    mod: str | None = None,
    resume: bool = False,
) -> AnnData | MuData | None:
    """Fit an operator on slots, apply it, write its outputs and record the step.

    ``reads`` and ``writes`` say which slots its inputs and outputs are; an output without a slot is not written.
    ``constants`` are plain values to write besides (slot -> value), which its inputs may name too, ``select`` the
    boolean
    gene mask (a slot or an array) that restricts its gene matrices, ``mod`` the modality every slot is addressed in.
    With ``resume`` the fit goes on from the state of a recorded step that was fitted alike on the same input.
    Everything is computed before anything is assigned, and assigned whole or not at all.
    """
    if copy:
        data = data.copy()
    registry = load(data)
    result = compute(
        data,
        registry,
        operator,
        reads=reads,
        writes=writes,
        constants=constants,
        select=select,
        name=name,
        seed=seed,
        mod=mod,
        resume=resume,
    )
    registry.record(result.step)
    commit(data, registry, result.values)
    return data if copy else None


def compute_step(
    data: AnnData | MuData,
    operator: Operator,
    *,
    reads: Mapping[str, str | Sequence[str]],
    writes: Mapping[str, str] | None = None,
    constants: Mapping[str, Any] | None = None,
    select: str | np.ndarray | None = None,
    seed: int = 0,
    mod: str | None = None,
) -> dict[str, Any]:
    """The outputs of a step by name, with nothing written or recorded (``inplace=False``)."""
    del writes, constants
    result = compute(data, load(data), operator, reads=reads, writes={}, select=select, seed=seed, mod=mod)
    return result.outputs


def compute_array(operator: Operator, *, x, seed: int = 0) -> dict[str, Any]:
    """Outputs and views for a plain array of shape (n_cells, n_genes): computed, not recorded."""
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
    select=None,
    name=None,
    seed=0,
    mod=None,
    resume=False,
) -> Result:
    """Fit and apply an operator; the result is not written yet."""
    constants = {Slot.parse(slot, mod): value for slot, value in (constants or {}).items()}
    title = name or operator.name
    given = gather(data, registry, operator, reads, select=select, constants=constants, mod=mod, title=title)
    slots = {key: Slot.parse(address, mod) for key, address in writes.items()}
    check_writable(data, slots.values())  # before a long training, not after
    if resume:
        operator = resumed(registry, operator, given, seed)
    with log.timed(f"computing {title}"), log.progress(title) as show:
        operator.fit(**given.fit, seed=seed, progress=show)
        outputs = {**apply(operator, given.call, given.n_cells), **views(operator)}
    outputs = {key: as_dtype(value, operator.outputs[key]) for key, value in outputs.items()}
    values = {slot: stored(data, operator.outputs[key], outputs[key], slot, given) for key, slot in slots.items()}
    step = Step(
        name=title,
        id=registry.next_id(),
        operator=operator.name,
        config=operator.config,
        seed=seed,
        version=__version__,
        reads=given.reads,
        writes={key: str(slot) for key, slot in slots.items()},
        select=str(Slot.parse(select, mod)) if isinstance(select, str) else None,
        select_source=given.select_source,
        content={str(slots[k]): o.content for k, o in operator.outputs.items() if o.content and k in slots},
        constants={str(slot): plain_json(value) for slot, value in constants.items() if is_json(value)},
        n_cells=given.n_cells,
        genes=given.genes,
        arrays=state_arrays(operator),
        **reference_facts(data, operator, {**read_slots(given.reads), **slots}, values),
        fingerprints=prints(data, given.fingerprints, values),
    )
    return Result(operator, outputs, {**values, **constants}, step)


def resumed(registry: Registry, operator: Operator, given: Gathered, seed: int) -> Operator:
    """The operator with the state of the last step that was fitted alike on the same input, if there is one."""
    for step in sorted(registry, key=lambda step: -step.at):
        if step.operator != operator.name or step.mapped or step.seed != seed or dict(step.reads) != given.reads:
            continue
        recorded = step.build()
        same_genes = step.genes is given.genes or np.array_equal(step.genes, given.genes)
        same_input = all(same(step.fingerprints.get(slot), print_) for slot, print_ in given.fingerprints.items())
        if recorded.fit_config == operator.fit_config and same_genes and same_input and step.n_cells == given.n_cells:
            log.info(f"Going on from the fit of step {step.name!r}: neither its settings nor its input changed.")
            return rebuild(type(operator), operator.config, step.arrays)
    return operator


def commit(data: AnnData | MuData, registry: Registry, values: Mapping[Slot, Any]) -> None:
    """Write computed values and the registry, all or nothing."""
    if compat.is_view(data):
        log.warn("Received a view of an AnnData. Making a copy.")
        compat.to_actual(data)
    assign(data, {**values, Slot("uns", (KEY,)): registry.to_uns(__version__)})
    if values:
        log.hint("added\n" + "\n".join(f"    {slot.written()}" for slot in values))


def views(operator: Operator) -> dict[str, Any]:
    """The outputs of a fitted operator that are views of its state; an adopted one may lack some."""
    names = [name for name, output in operator.outputs.items() if output.view and hasattr(operator, name)]
    return {name: host(getattr(operator, name)) for name in names}


def host(value: Any) -> Any:
    """A state's value as NumPy."""
    if hasattr(value, "get_value"):
        value = value.get_value()
    return np.asarray(value) if hasattr(value, "__array__") else value


def as_dtype(value: Any, output: Output) -> Any:
    """An output in its declared dtype."""
    if output.dtype is None or isinstance(value, Graph | Codes):
        return value
    if isinstance(value, np.ndarray) or sparse.issparse(value):
        return value.astype(output.dtype, copy=False)
    return value


def stored(data, output: Output, value: Any, slot: Slot, given: Gathered) -> Any:
    """An output as its slot keeps it: a view of some genes takes the full length, zero elsewhere."""
    mask = given.mask
    if output.axis == "genes" and mask is not None and len(value) == mask.sum() != len(mask):
        full = np.zeros((len(mask), *value.shape[1:]), value.dtype)
        full[mask] = value
        value = full
    return as_stored(value, slot, holder(data, slot), given.genes)


def prints(data, inputs: Mapping[str, np.ndarray], values: Mapping[Slot, Any]) -> dict[str, np.ndarray]:
    """Fingerprints to keep: of what came from outside the program, and of what is written."""
    written = {str(slot) for slot in values}
    kept = {original(address) if address in written else address: print_ for address, print_ in inputs.items()}
    for slot, value in values.items():
        if slot.container == "uns":
            continue
        print_ = slot_fingerprint(value, *axis_names(data, slot))
        if print_ is not None:
            kept[str(slot)] = print_
    return kept


def reference_facts(data, operator: Operator, slots: Mapping[str, Slot], values: Mapping[Slot, Any]) -> dict[str, Any]:
    """Where an operator's per-cell state lies, with a digest of each row.

    ``slots`` gives the slot of each input and output, ``values`` what is about to be written; the rest is read.
    """
    references, digests = {}, {}
    for attribute, port in operator.references.items():
        slot = slots.get(port)
        if slot is None:
            continue
        value = values[slot] if slot in values else read(data, slot)
        references[attribute] = str(slot)
        digest = reference_digests(data, slot, value)
        if digest is not None:
            digests[str(slot)] = np.sort(digest)
    return {"references": references, "digests": digests}


def read_slots(reads: Mapping[str, Read]) -> dict[str, Slot]:
    """Input name -> the slot that feeds it (the first of several)."""
    return {name: Slot.parse(entry.slots[0]) for name, entry in reads.items()}


def reference_digests(data, slot: Slot, value: Any) -> np.ndarray | None:
    """Digest of each row of a referenced slot and its name; None for graphs: dropping cells changes their rows."""
    if slot.container == "obsp" or slot.is_gene_matrix:
        return None
    if hasattr(value, "categories") or hasattr(value, "cat"):
        categorical = value.cat if hasattr(value, "cat") else value
        value = np.asarray(categorical.codes, np.int32)  # clusters may be given names
    return row_digests(np.asarray(value), name_hashes(row_names(data, slot)))


def is_json(value: Any) -> bool:
    """Plain enough for the registry's JSON."""
    try:
        json.dumps(plain_json(value))
    except (TypeError, ValueError):
        return False
    return True


def plain_json(value: Any) -> Any:
    """Nested dicts of plain values, NumPy scalars as Python's."""
    return {str(k): plain_json(v) for k, v in value.items()} if isinstance(value, Mapping) else plain(value)


def matrix_slot(layer: str | None = None, obsm: str | None = None, *, use_raw: bool = False) -> str:
    """The slot that scanpy's ``layer``, ``obsm`` and ``use_raw`` name.

    Raises
    ------
    ValueError
        More than one of them was given.
    """
    named = [a for a in (layer and f"layers/{layer}", obsm and f"obsm/{obsm}", use_raw and "raw/X") if a]
    if len(named) > 1:
        msg = "Name one of `layer`, `obsm` and `use_raw`, not several."
        raise ValueError(msg)
    return named[0] if named else "X"


def graph_slot(
    data: AnnData | MuData, neighbors_key: str | None = None, obsp: str | None = None, *, mod: str | None = None
) -> str:
    """The slot of the neighbours' connectivities, looked up through ``uns[neighbors_key]`` as scanpy does.

    Raises
    ------
    ValueError
        Both were given.
    SlotError
        There are no neighbours of this name.
    """
    if obsp is not None and neighbors_key is not None:
        msg = "Name `neighbors_key` or `obsp`, not both."
        raise ValueError(msg)
    if obsp is not None:
        return f"obsp/{obsp}"
    settings = read(data, Slot.parse(f"uns/{neighbors_key or 'neighbors'}", mod))
    return f"obsp/{settings.get('connectivities_key', 'connectivities')}"
