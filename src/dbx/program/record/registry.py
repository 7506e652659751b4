"""The registry: a program's steps inside ``adata.uns['dbx']``, as str-keyed dicts, numeric arrays and one JSON text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.program.record.step import Read, Step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

KEY = "dbx"
SCHEMA = 2
"""2 records the package of each operator; 1 is still read."""
PARTS = ("genes", "state", "fingerprints", "digests")
"""Arrays by step, beside the program's text."""
START_ANEW = "To start a new program, delete it: del adata.uns['dbx']."


class RegistryError(ValueError):
    """A program in ``uns`` that cannot be read; says what is wrong with it."""


@dataclass
class Registry:
    """The ordered steps of one program."""

    steps: list[Step] = field(default_factory=list)

    def __iter__(self):
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, name: str) -> Step:
        for step in self.steps:
            if step.name == name:
                return step
        there = ", ".join(repr(step.name) for step in self.steps) or "none"
        msg = f"There is no step {name!r}; recorded are: {there}."
        raise KeyError(msg)

    def by_id(self, number: int | None) -> Step | None:
        """The step with this id, None if it was superseded."""
        return next((step for step in self.steps if step.id == number), None)

    def next_id(self) -> int:
        """An id no step ever had: ids of superseded steps are still named by what read them."""
        used = [step.id for step in self.steps] + [i for step in self.steps for i in step.sources()]
        return max(used, default=0) + 1

    def writer(self, slot: str) -> Step | None:
        """The last step that wrote a slot."""
        writers = [step for step in self.steps if slot in step.writes.values()]
        return max(writers, key=lambda step: step.at, default=None)

    def depends(self, step: Step, number: int) -> bool:
        """Whether a step reads, directly or through others, what the step with this id wrote."""
        sources = step.sources()
        return number in sources or any(
            self.depends(earlier, number) for earlier in map(self.by_id, sources) if earlier is not None
        )

    def stale(self, step: Step) -> str | None:
        """Why a step's result is out of date: the name of a step it read from that was since run again."""
        for number in step.sources():
            source = self.by_id(number)
            if source is None:
                return "an input was computed again since"
            if reason := self.stale(source):
                return f"{source.name} is stale: {reason}"
        return None

    def record(self, step: Step) -> Step:
        """Add a step; it supersedes an earlier run of the same operator into the same slots unless it builds on it.

        A run that gave the very same result takes the earlier one's place, so that nothing becomes stale by it. Steps
        whose every output was overwritten since are dropped once nothing that is still there was made from them.
        """
        step = replace(step, at=max((other.at for other in self.steps), default=0) + 1)
        twins = (i for i, other in enumerate(self.steps) if _twins(other, step) and not self.depends(step, other.id))
        place = next(twins, None)
        if place is None:
            step = replace(step, name=self.free_name(step.name))
            self.steps.append(step)
        elif _same_result(self.steps[place], step):
            step = replace(step, name=self.steps[place].name, id=self.steps[place].id)
            self.steps[place] = step
        else:
            step = replace(step, name=self.steps.pop(place).name)
            self.steps.append(step)
        live = self._live()
        self.steps = [other for other in self.steps if other.id in live]
        return step

    def current(self, step: Step) -> bool:
        """Whether something a step wrote is still what its slot holds, as far as the program knows."""
        return not step.writes or any(self.writer(slot) is step for slot in step.results())

    def _live(self) -> set[int]:
        live = {step.id for step in self.steps if self.current(step)}
        while True:
            needed = {i for step in self.steps if step.id in live for i in step.sources()} | live
            if needed == live:
                return live
            live = needed

    def free_name(self, name: str) -> str:
        """``name``, or ``name_2``, ``name_3``, ..."""
        taken = {step.name for step in self.steps}
        numbered = (f"{name}_{i}" for i in range(2, len(taken) + 3))
        return name if name not in taken else next(n for n in numbered if n not in taken)

    # -- storage ---------------------------------------------------------------------------------------------------

    def to_uns(self, version: str) -> dict[str, Any]:
        """The registry as AnnData can store it."""
        genes: dict[str, np.ndarray] = {}
        facts = []
        for step in self.steps:
            fact = step.facts()
            fact["genes"] = None
            if step.genes is not None:
                fact["genes"] = text_digest(step.genes)[:16]
                genes[fact["genes"]] = step.genes
            facts.append(fact)
        tree = {
            "schema": SCHEMA,
            "version": version,
            "program": json.dumps(facts),
            "genes": genes,
            "state": {s.name: {k: _stored(a) for k, (_, a) in s.arrays.items()} for s in self.steps},
            "fingerprints": {s.name: _numbered(s.fingerprints) for s in self.steps},
            "digests": {s.name: _numbered(s.digests) for s in self.steps},
        }
        tree["digest"] = tree_digest(tree)
        return tree

    @classmethod
    def from_uns(cls, tree: Any) -> Registry:
        """Read a registry, checking schema, digest and shape before anything is used; nothing in it is ever executed.

        Raises
        ------
        RegistryError
            It is truncated, foreign, tampered with, or from a future dbx.
        """
        if not isinstance(tree, Mapping) or "schema" not in tree:
            msg = f"adata.uns['dbx'] is not a dbx program: {_kind(tree)} without a schema. {START_ANEW}"
            raise RegistryError(msg)
        _check_schema(tree)
        missing = [part for part in ("version", "program", "digest") if part not in tree]
        try:
            intact = not missing and tree_digest(tree) == str(tree["digest"])
        except (TypeError, ValueError, AttributeError):
            intact = False
        missing += [part for part in PARTS if part not in tree]  # merging drops empty ones, which are no loss
        if not intact and missing:
            msg = (
                f"The program in adata.uns['dbx'] is incomplete: {', '.join(missing)} missing. ad.concat with "
                f"uns_merge, or a partial copy of uns, can do that. {START_ANEW}"
            )
            raise RegistryError(msg)
        if not intact:
            msg = (
                "The program in adata.uns['dbx'] was changed outside dbx: its content does not match its digest. "
                f"Load the original file, or: {START_ANEW}"
            )
            raise RegistryError(msg)
        tree = {**{part: {} for part in PARTS}, **tree}
        try:
            return cls([_step(fact, tree) for fact in json.loads(tree["program"])])
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            msg = f"The program in adata.uns['dbx'] cannot be read ({type(error).__name__}: {error}). {START_ANEW}"
            raise RegistryError(msg) from error


def load(data: AnnData | MuData) -> Registry:
    """The program recorded in ``data``; an empty one if there is none."""
    return Registry.from_uns(data.uns[KEY]) if KEY in data.uns else Registry()


def load_program(data: AnnData | MuData) -> Registry:
    """The program recorded in ``data``.

    Raises
    ------
    ValueError
        There is none.
    """
    registry = load(data)
    if not len(registry):
        msg = "No program is recorded here (uns['dbx']): run dbx.pp and dbx.tl steps first, or dbx.adopt(adata)."
        raise ValueError(msg)
    return registry


def tree_digest(tree: Mapping[str, Any]) -> str:
    """SHA-256 over the program text and every array, whatever order or container they come back in."""
    digest = hashlib.sha256(json.dumps([int(tree["schema"]), str(tree["version"]), str(tree["program"])]).encode())
    for part in PARTS:
        for path, value in _leaves(tree.get(part, {}), part):
            digest.update(path.encode())
            digest.update(text_digest(value).encode() if part == "genes" else _array_bytes(value))
    return digest.hexdigest()


def _check_schema(tree: Mapping[str, Any]) -> None:
    schema = tree["schema"]
    if not isinstance(schema, int | np.integer) or isinstance(schema, bool):
        msg = f"adata.uns['dbx'] is not a dbx program: its schema is {schema!r}, not a number. {START_ANEW}"
        raise RegistryError(msg)
    if schema > SCHEMA:
        msg = (
            f"The program in adata.uns['dbx'] has schema {schema}, written by dbx {tree.get('version', '?')}; this "
            f"dbx reads "
            f"up to schema {SCHEMA}. Update dbx: pip install -U dbx-bio."
        )
        raise RegistryError(msg)


def _step(fact: dict[str, Any], tree: Mapping[str, Any]) -> Step:
    name = fact["name"]
    state = tree["state"].get(name, {})
    arrays = {
        key: (about["kind"], np.asarray(state[key], dtype=about["dtype"]).reshape(about["shape"]))
        for key, about in fact["arrays"].items()
    }
    reads = {
        key: Read(
            slots=tuple(read["slots"]),
            source=read["source"],
            gap=read["gap"],
            content=read["content"],
            levels={column: tuple(levels) for column, levels in read["levels"].items()},
        )
        for key, read in fact["reads"].items()
    }
    genes = None if fact["genes"] is None else np.array([str(g) for g in tree["genes"][fact["genes"]]], dtype=object)
    rest = {k: v for k, v in fact.items() if k not in ("arrays", "reads", "genes", "fingerprints", "digests")}
    return Step(
        **rest,
        reads=reads,
        arrays=arrays,
        genes=genes,
        fingerprints=_named(fact["fingerprints"], tree["fingerprints"].get(name, {})),
        digests=_named(fact["digests"], tree["digests"].get(name, {})),
    )


def _stored(array: np.ndarray) -> np.ndarray:
    """At least one axis: files give a 0-d array back as a Python scalar."""
    return np.atleast_1d(np.asarray(array))


def _numbered(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Slots hold slashes, which no key in ``uns`` may: arrays go by number, their slots stand in the JSON."""
    return {str(i): np.asarray(array) for i, array in enumerate(arrays.values())}


def _named(slots: list[str], arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {slot: np.asarray(arrays[str(i)]) for i, slot in enumerate(slots)}


def _twins(a: Step, b: Step) -> bool:
    return a.operator == b.operator and set(a.writes.values()) == set(b.writes.values())


def _same_result(a: Step, b: Step) -> bool:
    """The same outputs made from the same versions of the same slots."""
    slots = [slot for slot in b.writes.values() if not slot.startswith("uns/") and "/uns/" not in slot]
    old, new = a.fingerprints, b.fingerprints
    same = all(slot in old and slot in new and np.array_equal(old[slot], new[slot]) for slot in slots)
    return bool(slots) and same and a.sources() == b.sources()


def _leaves(tree: Any, path: str):
    if isinstance(tree, Mapping):
        for key in sorted(tree):
            yield from _leaves(tree[key], f"{path}/{key}")
    else:
        yield path, tree


def _array_bytes(value: Any) -> bytes:
    array = np.ascontiguousarray(value)
    return f"{array.dtype.str}{array.shape}".encode() + array.tobytes()


def text_digest(names: Any) -> str:
    """SHA-256 of names in their order."""
    return hashlib.sha256("\n".join(map(str, names)).encode()).hexdigest()


def _kind(value: Any) -> str:
    return "a dict" if isinstance(value, Mapping) else f"a {type(value).__name__}"
