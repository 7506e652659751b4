"""Steps as ``adata.uns['dbx']`` keeps them: str-keyed dicts, numeric arrays and one JSON text, with a digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from dbx.program.record.step import Read, Step

SCHEMA = 2
"""2 records the package of each operator; 1 is still read."""
PARTS = ("genes", "state", "fingerprints", "digests")
"""Arrays by step, beside the program's text."""
START_ANEW = "To start a new program, delete it: del adata.uns['dbx']."


class RegistryError(ValueError):
    """A program in ``uns`` that cannot be read; says what is wrong with it."""


def to_tree(steps: Iterable[Step], version: str) -> dict[str, Any]:
    """Steps as AnnData can store them."""
    steps = list(steps)
    lists = {id(step.genes): step.genes for step in steps if step.genes is not None}
    keys = {number: text_digest(names)[:16] for number, names in lists.items()}  # most steps share one list
    facts = [{**step.facts(), "genes": keys.get(id(step.genes))} for step in steps]
    tree = {
        "schema": SCHEMA,
        "version": version,
        "program": json.dumps(facts),
        "genes": {keys[number]: names for number, names in lists.items()},
        "state": {s.name: {k: _stored(a) for k, (_, a) in s.arrays.items()} for s in steps},
        "fingerprints": {s.name: _numbered(s.fingerprints) for s in steps},
        "digests": {s.name: _numbered(s.digests) for s in steps},
    }
    tree["digest"] = tree_digest(tree)
    return tree


def from_tree(tree: Any) -> list[Step]:
    """Steps from ``uns``; schema, digest and shape are checked before anything is used, and nothing is ever executed.

    Raises
    ------
    RegistryError
        The program is truncated, foreign, tampered with, or from a future dbx.
    """
    if not isinstance(tree, Mapping) or "schema" not in tree:
        msg = f"adata.uns['dbx'] is not a dbx program: {_type_of(tree)} without a schema. {START_ANEW}"
        raise RegistryError(msg)
    _check_schema(tree)
    missing = [part for part in ("version", "program", "digest") if part not in tree]
    intact = not missing and _is_intact(tree)
    missing += [part for part in PARTS if part not in tree]  # merging drops empty ones, which are not needed
    if not intact and missing:
        msg = (
            f"The program in adata.uns['dbx'] is incomplete: {', '.join(missing)} missing. ad.concat with "
            f"uns_merge, or a partial copy of uns, can do that. {START_ANEW}"
        )
        raise RegistryError(msg)
    if not intact:
        msg = (
            "The program in adata.uns['dbx'] was changed outside dbx: its content does not match its digest. Parts of "
            "two programs, as ad.concat with uns_merge can leave them, do not match either. Load the original file. "
            f"{START_ANEW}"
        )
        raise RegistryError(msg)
    tree = {**{part: {} for part in PARTS}, **tree}
    try:
        facts = json.loads(tree["program"])
        lists = {fact["genes"] for fact in facts} - {None}
        genes = {key: np.array([str(name) for name in tree["genes"][key]], dtype=object) for key in lists}
        return [_step(fact, tree, genes) for fact in facts]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        msg = f"The program in adata.uns['dbx'] cannot be read ({type(error).__name__}: {error}). {START_ANEW}"
        raise RegistryError(msg) from error


def tree_digest(tree: Mapping[str, Any]) -> str:
    """SHA-256 over the program text and every array, independent of their order and containers."""
    digest = hashlib.sha256(json.dumps([int(tree["schema"]), str(tree["version"]), str(tree["program"])]).encode())
    for part in PARTS:
        for path, value in _leaves(tree.get(part, {}), part):
            digest.update(path.encode())
            digest.update(text_digest(value).encode() if part == "genes" else _array_bytes(value))
    return digest.hexdigest()


def text_digest(names: Any) -> str:
    """SHA-256 of names in their order."""
    return hashlib.sha256("\n".join(map(str, names)).encode()).hexdigest()


def _check_schema(tree: Mapping[str, Any]) -> None:
    schema = tree["schema"]
    if not isinstance(schema, int | np.integer) or isinstance(schema, bool):
        msg = f"adata.uns['dbx'] is not a dbx program: its schema is {schema!r}, not a number. {START_ANEW}"
        raise RegistryError(msg)
    if schema > SCHEMA:
        msg = (
            f"The program in adata.uns['dbx'] has schema {schema}, written by dbx {tree.get('version', '?')}; this "
            f"dbx reads up to schema {SCHEMA}. Update dbx: pip install -U dbx-bio."
        )
        raise RegistryError(msg)


def _is_intact(tree: Mapping[str, Any]) -> bool:
    """Whether the digest is that of the program as it is, or without what was merged into it."""
    for parts in (dict, _named_parts):
        try:
            if tree_digest(parts(tree)) == str(tree["digest"]):
                return True
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
    return False


def _named_parts(tree: Mapping[str, Any]) -> dict[str, Any]:
    """A program without arrays that its text does not name: merged ``uns`` also hold those of other programs."""
    facts = json.loads(tree["program"])
    genes = {fact["genes"] for fact in facts}
    named = {
        "state": {fact["name"]: set(fact["arrays"]) for fact in facts},
        "fingerprints": {fact["name"]: _numbers(fact["fingerprints"]) for fact in facts},
        "digests": {fact["name"]: _numbers(fact["digests"]) for fact in facts},
    }
    parts: dict[str, Any] = {"genes": {key: names for key, names in tree.get("genes", {}).items() if key in genes}}
    for part, by_step in named.items():
        stored = tree.get(part, {})
        parts[part] = {
            step: {key: array for key, array in stored.get(step, {}).items() if key in keys}
            for step, keys in by_step.items()
        }
    return {**tree, **parts}


def _numbers(slots: list[str]) -> set[str]:
    """The keys under which arrays of these slots are stored."""
    return set(map(str, range(len(slots))))


def _step(fact: dict[str, Any], tree: Mapping[str, Any], genes: Mapping[str, np.ndarray]) -> Step:
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
            outside=read.get("outside", False),
            first=read.get("first"),
            maker=read.get("maker", ""),
            columns=None if read.get("columns") is None else tuple(read["columns"]),
            named=read.get("named"),
        )
        for key, read in fact["reads"].items()
    }
    rest = {k: v for k, v in fact.items() if k not in ("arrays", "reads", "genes", "fingerprints", "digests")}
    return Step(
        **rest,
        reads=reads,
        arrays=arrays,
        genes=None if fact["genes"] is None else genes[fact["genes"]],
        fingerprints=_named(fact["fingerprints"], tree["fingerprints"].get(name, {})),
        digests=_named(fact["digests"], tree["digests"].get(name, {})),
    )


def _stored(array: np.ndarray) -> np.ndarray:
    """At least one axis: files give a 0-d array back as a Python scalar."""
    return np.atleast_1d(np.asarray(array))


def _numbered(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Arrays keyed by number, their slots being in the JSON: no key in ``uns`` may have a slash."""
    return {str(i): np.asarray(array) for i, array in enumerate(arrays.values())}


def _named(slots: list[str], arrays: Mapping[str, Any]) -> dict[str, np.ndarray]:
    return {slot: np.asarray(arrays[str(i)]) for i, slot in enumerate(slots)}


def _leaves(tree: Any, path: str):
    if isinstance(tree, Mapping):
        for key in sorted(tree):
            yield from _leaves(tree[key], f"{path}/{key}")
    else:
        yield path, tree


def _array_bytes(value: Any) -> bytes:
    array = np.ascontiguousarray(value)
    return f"{array.dtype.str}{array.shape}".encode() + array.tobytes()


def _type_of(value: Any) -> str:
    return "a dict" if isinstance(value, Mapping) else f"a {type(value).__name__}"
