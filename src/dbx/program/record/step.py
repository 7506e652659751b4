"""A step: one recorded use of an operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from dbx.ops.catalogue import CATALOGUE
from dbx.ops.installed import where_it_is
from dbx.ops.operator import Operator
from dbx.ops.state import rebuild
from dbx.ops.user.functions import why_missing
from dbx.program.slots.slots import Slot


@dataclass(frozen=True, kw_only=True)
class Read:
    """Which slots fed one input, and whose version of them."""

    slots: tuple[Slot, ...]
    source: int | None = None
    """Id of the step that wrote what was read; None for what was there before the program."""
    gap: str | None = None
    """Name of the step whose output was changed outside dbx before it was read here."""
    content: str | None = None
    levels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Levels of each categorical column at the fit."""
    outside: bool = False
    """It was computed, but by no step: neither counts, nor measured, nor a copy of what a step wrote."""
    maker: str = ""
    """What computed or changed it outside dbx, as far as its traces say."""
    first: int | None = None
    """How many of its columns were kept by hand, the first ones; None for all."""
    columns: tuple[str, ...] | None = None
    """Names of the columns of a matrix in ``obsm``, which those of other cells are matched by; None without names."""
    named: Slot | None = None
    """Slot of these names, where they are not those of a DataFrame."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "slots", tuple(map(Slot.parse, self.slots)))
        if self.named is not None:
            object.__setattr__(self, "named", Slot.parse(self.named))


@dataclass(frozen=True, kw_only=True)
class Step:
    """One recorded use of an operator: enough to rebuild it, and to say what it read and wrote."""

    name: str
    id: int
    operator: str
    config: Mapping[str, Any]
    seed: int
    version: str
    """The dbx that recorded it."""
    reads: Mapping[str, Read]
    writes: Mapping[str, Slot]
    package: str | None = None
    """The package that its operator comes from, as pip takes it; empty for an operator of a session, None where it was
    recorded before packages were."""
    select: Slot | None = None
    """Slot of the gene mask that was in force."""
    select_source: int | None = None
    content: Mapping[Slot, str] = field(default_factory=dict)
    """Slot -> what it holds after this step."""
    references: Mapping[str, Slot] = field(default_factory=dict)
    """Reference attribute -> slot in the reference cells' AnnData."""
    constants: Mapping[Slot, Any] = field(default_factory=dict)
    """Slot -> plain value that is also written, such as scanpy's ``uns/pca/params``."""
    at: int = 0
    """When it last ran, as a count of recorded runs: the last writer of a slot made what is there now."""
    n_cells: int = 0
    mapped: bool = False
    """Applied to these cells by ``rerun``, fitted on others."""
    trained: Mapping[str, Any] = field(default_factory=dict)
    """How its parameters were trained after the fit: the loss as text, seed, number of cells, gain."""
    genes: np.ndarray | None = None
    """Names of the genes of the state, in its order."""
    arrays: Mapping[str, tuple[str, np.ndarray]] = field(default_factory=dict)
    fingerprints: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Slot -> fingerprint of what was read from outside the program, is kept of reference cells, or was written."""
    digests: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Referenced slot -> digest of each of its rows, sorted."""

    def __post_init__(self) -> None:
        for name in ("writes", "references"):
            parsed = {key: Slot.parse(slot) for key, slot in getattr(self, name).items()}
            object.__setattr__(self, name, parsed)
        for name in ("content", "constants"):
            parsed = {Slot.parse(slot): value for slot, value in getattr(self, name).items()}
            object.__setattr__(self, name, parsed)
        if self.select is not None:
            object.__setattr__(self, "select", Slot.parse(self.select))

    def slots(self) -> list[Slot]:
        """Every slot that it reads, writes, keeps cells in or selects genes by."""
        read = [slot for entry in self.reads.values() for slot in entry.slots]
        return [*read, *self.writes.values(), *self.references.values(), *([self.select] if self.select else [])]

    @property
    def mod(self) -> str | None:
        """The modality that its slots are in, None for an AnnData or the MuData itself."""
        first = next(iter((*self.writes.values(), *(read.slots[0] for read in self.reads.values()))), None)
        return None if first is None else first.mod

    @property
    def operator_class(self) -> type[Operator]:
        """The class of its operator.

        Raises
        ------
        LookupError
            It is not here; says which package has it.
        """
        if self.operator not in CATALOGUE:
            msg = f"Step {self.name!r} {self.why_unknown()}."
            raise LookupError(msg)
        return CATALOGUE[self.operator].declared(self.config)

    def why_missing(self) -> str | None:
        """What it needs that is not here and how to get it, as the end of a sentence; None if nothing."""
        if self.operator not in CATALOGUE:
            return self.why_unknown()
        return why_missing(self.operator_class.functions(self.config))

    def why_unknown(self) -> str:
        """What to do about an operator that is not here."""
        needs = f"needs the operator {self.operator!r}"
        if self.package is None:
            return f"{needs}, which this dbx does not have: install dbx {self.version}, which recorded it"
        return f"{needs}, which is not here: {where_it_is(self.package)}"

    def build(self) -> Operator:
        """The fitted operator, without its per-cell references."""
        return rebuild(self.operator_class, self.config, self.arrays)

    def only_columns(self) -> bool:
        """Whether all that it writes are columns of cells and genes: metrics, a filter."""
        return all(slot.container in ("obs", "var", "uns") for slot in self.writes.values())

    def filters(self, axis: Literal["cells", "genes"]) -> bool:
        """Whether it removes cells, or genes."""
        if self.operator not in CATALOGUE or (axis == "genes" and self.genes is None):
            return False
        outputs = self.operator_class.outputs
        return any(output.passes and output.axis == axis for output in outputs.values())

    def results(self) -> list[Slot]:
        """Its main slots: of cells, and inferences; not statistics of genes that come with them."""
        outputs = self.operator_class.outputs if self.operator in CATALOGUE else {}
        known = {name: slot for name, slot in self.writes.items() if name in outputs}
        wanted = [slot for name, slot in known.items() if not outputs[name].view or outputs[name].inference]
        return wanted or list(self.writes.values())

    @property
    def result(self) -> Slot | None:
        """Where its operator's ``result`` is, if that declares one."""
        name = self.operator_class.result if self.operator in CATALOGUE else None
        return None if name is None else self.writes.get(name)

    def maps_cells(self) -> bool:
        """Whether it computes something for cells, rather than only views of genes or tests; unknown operators may."""
        if self.operator not in CATALOGUE:
            return True
        outputs = self.operator_class.outputs
        return any(name in outputs and not outputs[name].view for name in self.writes)

    def sources(self) -> set[int]:
        """Ids of the steps it read from."""
        ids = {read.source for read in self.reads.values()} | {self.select_source}
        return {i for i in ids if i is not None}

    def gaps(self) -> set[str]:
        """Names of the steps whose output was changed outside dbx before it was read here."""
        return {read.gap for read in self.reads.values() if read.gap is not None}

    def facts(self) -> dict[str, Any]:
        """Everything but the arrays, as plain JSON values."""
        plain = {name: value for name, value in asdict_shallow(self).items() if name not in ARRAY_FIELDS}
        plain["reads"] = {name: asdict(read) for name, read in self.reads.items()}
        plain["arrays"] = {
            name: {"kind": kind, "dtype": str(array.dtype), "shape": list(array.shape)}
            for name, (kind, array) in self.arrays.items()
        }
        plain["fingerprints"], plain["digests"] = list(self.fingerprints), list(self.digests)
        return plain


ARRAY_FIELDS = ("genes", "arrays", "fingerprints", "digests", "reads")


def asdict_shallow(step: Step) -> dict[str, Any]:
    """The fields of a step, not copied."""
    return {name: getattr(step, name) for name in step.__dataclass_fields__}
