"""Tables of equivalence classes of several samples, joined by what their fragments are compatible with."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.ops.abundance.classes import EquivalenceClasses
from dbx.ops.checks import UnknownNameError, listed

Key = tuple[tuple[int, ...], tuple[float, ...]]


@dataclass
class ClassTable:
    """Counts of classes by sample; a class is its transcripts, in the order of their numbers, with their weights."""

    names: list[str]
    """Names of the transcripts."""
    samples: list[str] = field(default_factory=list)
    classes: dict[Key, int] = field(default_factory=dict)
    """What each class is compatible with -> its number."""
    entries: list[tuple[int, int, float]] = field(default_factory=list)
    """Sample, class and count."""
    effective_lengths: list[np.ndarray | None] = field(default_factory=list)
    """Of the transcripts of each sample, where its files have them."""
    lengths: dict[str, float] = field(default_factory=dict)
    """Bases of transcripts by name, where files have them."""

    def number(self, members: Sequence[int], weights: Sequence[float] = ()) -> int:
        """Number of the class with these members; a new one if there is none yet."""
        if len(members) == 0:
            msg = "A class has no transcript: remove it, or name its transcripts."
            raise ValueError(msg)
        order = np.argsort(members, kind="stable")
        key = (tuple(int(members[i]) for i in order), tuple(float(weights[i]) for i in order) if len(weights) else ())
        if len(set(key[0])) < len(key[0]):
            msg = f"A class names a transcript twice: {listed(self.names[t] for t in key[0])}."
            raise ValueError(msg)
        return self.classes.setdefault(key, len(self.classes))

    def compressed(self) -> EquivalenceClasses:
        """All classes."""
        members = [key[0] for key in self.classes]
        indptr = np.append(0, np.cumsum([len(row) for row in members])).astype(np.int64)
        with_weights = [bool(key[1]) for key in self.classes]
        if any(with_weights) and not all(with_weights):
            msg = "Some classes have weights and others have none: give weights to all of them, or to none."
            raise ValueError(msg)
        weights = np.concatenate([key[1] for key in self.classes]) if any(with_weights) else None
        if weights is not None and not (np.isfinite(weights) & (weights > 0)).all():
            msg = f"Weights of members must be above 0; got {weights[~(weights > 0)][:1]}."
            raise ValueError(msg)
        return EquivalenceClasses(len(self.names), indptr, np.concatenate(members).astype(np.int64), weights)

    def class_names(self) -> np.ndarray:
        """A name of each class: its transcripts in the order of their names, with their weights if they have any."""
        texts = []
        for members, weights in self.classes:
            parts = [self.names[t] for t in members]
            if weights:
                parts = [f"{name}:{weight:.9g}" for name, weight in zip(parts, weights, strict=True)]
            texts.append(",".join(sorted(parts)))
        return np.array(texts, object)

    def counts(self) -> sparse.csr_matrix:
        """CSR of shape (n_samples, n_classes), float64."""
        sample, number, count = (np.array(x) for x in zip(*self.entries, strict=True))
        shape = (len(self.samples), len(self.classes))
        matrix = sparse.csr_matrix((count.astype(np.float64), (sample, number)), shape)
        matrix.eliminate_zeros()
        return matrix


def from_frame(frame: pd.DataFrame, names: Sequence[str] | None) -> ClassTable:
    """A table with a row for each class: ``transcripts``, counts, and perhaps ``weights``."""
    if "transcripts" not in frame:
        msg = f"A table of classes needs a column 'transcripts'; it has {listed(frame.columns)}."
        raise UnknownNameError(msg)
    if not frame.columns.is_unique:
        msg = f"The table of classes has columns twice: {listed(frame.columns[frame.columns.duplicated()])}."
        raise ValueError(msg)
    members = [_split(text, i) for i, text in enumerate(frame["transcripts"])]
    known = list(names) if names is not None else list(dict.fromkeys(name for row in members for name in row))
    place = {name: i for i, name in enumerate(known)}
    absent = sorted({name for row in members for name in row} - set(place))
    if absent:
        msg = f"Classes name transcripts that are not in transcripts.index: {listed(absent)}."
        raise ValueError(msg)
    weights = None
    if "weights" in frame:
        weights = [numbers_of(_split(text, i), "weights").tolist() for i, text in enumerate(frame["weights"])]
    columns = [name for name in frame.columns if name not in ("transcripts", "weights")]
    if not columns:
        msg = "A table of classes needs counts: a column 'count', or one for each sample."
        raise ValueError(msg)
    values = np.column_stack([numbers_of(frame[name], f"counts of {name!r}") for name in columns])
    table = ClassTable(known, list(map(str, columns)), effective_lengths=[None] * len(columns))
    for i, row in enumerate(members):
        if weights is not None and len(weights[i]) != len(row):
            msg = f"Row {i} of the classes has {len(row)} transcripts and {len(weights[i])} weights."
            raise ValueError(msg)
        number = table.number([place[name] for name in row], weights[i] if weights is not None else ())
        if number != i:
            msg = f"The class of {listed(row)} is there twice, in rows {number} and {i}: add their counts."
            raise ValueError(msg)
        table.entries += [(sample, number, value) for sample, value in enumerate(values[i])]
    return table


def _split(text: Any, row: int) -> list[str]:
    if not isinstance(text, str | Iterable):
        msg = f"Row {row} of the classes must have names joined by commas; got {text!r}."
        raise TypeError(msg)
    parts = text.replace(";", ",").split(",") if isinstance(text, str) else list(text)
    return [str(part).strip() for part in parts if str(part).strip()]


def numbers_of(values: Any, what: str) -> np.ndarray:
    """Values as float64.

    Raises
    ------
    ValueError
        One is text.
    """
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError):
        wrong = [value for value in values if pd.isna(pd.to_numeric(value, errors="coerce"))]
        msg = f"The {what} must be numbers; got {listed(wrong)}."
        raise ValueError(msg) from None


def from_matrix(matrix: Any, names: Sequence[str] | None) -> ClassTable:
    """Fragments x transcripts: what each fragment is compatible with, and its weights if they are not all 1."""
    rows = sparse.csr_matrix(matrix, dtype=np.float64)
    rows.sum_duplicates()
    rows.eliminate_zeros()
    if names is None:
        names = [f"transcript{i}" for i in range(rows.shape[1])]
    elif len(names) != rows.shape[1]:
        msg = f"The compatibilities have {rows.shape[1]} columns, but there are {len(names)} transcripts."
        raise ValueError(msg)
    table = ClassTable(list(names), ["sample"], effective_lengths=[None])
    weighted = bool((rows.data != 1).any())
    for start, stop in zip(rows.indptr[:-1], rows.indptr[1:], strict=True):
        number = table.number(rows.indices[start:stop], rows.data[start:stop] if weighted else ())
        table.entries.append((0, number, 1.0))
    return table


def from_anndata(adata: Any, names: Sequence[str] | None) -> ClassTable:
    """Samples x classes with the compatibility of classes and transcripts in ``varm`` and their names in ``uns``."""
    lacking = [key for key, place in (("compatibility", adata.varm), ("transcripts", adata.uns)) if key not in place]
    if lacking:
        msg = "An AnnData of classes needs varm['compatibility'], classes x transcripts, and uns['transcripts'], names."
        raise UnknownNameError(msg)
    own = list(map(str, adata.uns["transcripts"]))
    table = from_matrix(adata.varm["compatibility"], own)
    numbers = [number for _, number, _ in table.entries]
    if len(set(numbers)) < len(numbers):
        msg = "Two classes of the AnnData have the same transcripts and weights: add their counts."
        raise ValueError(msg)
    counts = sparse.coo_matrix(adata.X)
    table.samples, table.effective_lengths = list(map(str, adata.obs_names)), [None] * adata.n_obs
    table.entries = list(zip(counts.row.tolist(), counts.col.tolist(), counts.data.tolist(), strict=True))
    return table if names is None else renamed(table, names)


def renamed(table: ClassTable, names: Sequence[str]) -> ClassTable:
    """The same classes with the transcripts in another order, perhaps among further ones."""
    place = {name: i for i, name in enumerate(names)}
    absent = [name for name in table.names if name not in place]
    used = {member for members, _ in table.classes for member in members}
    absent = [name for name in absent if table.names.index(name) in used]
    if absent:
        msg = f"Classes name transcripts that are not in transcripts.index: {listed(absent)}."
        raise ValueError(msg)
    moved = ClassTable(list(names), table.samples, entries=table.entries, lengths=table.lengths)
    for members, weights in table.classes:
        moved.number([place[table.names[member]] for member in members], weights)
    for lengths in table.effective_lengths:
        known = None if lengths is None else pd.Series(lengths, table.names).reindex(names).to_numpy()
        moved.effective_lengths.append(known)
    return moved


def joined(tables: Sequence[ClassTable]) -> ClassTable:
    """Several samples in one table, with all their transcripts."""
    names = list(dict.fromkeys(name for table in tables for name in table.names))
    whole = ClassTable(names)
    for table in tables:
        table = table if table.names == names else renamed(table, names)
        numbers = [whole.number(*key) for key in table.classes]
        first = len(whole.samples)
        whole.samples += table.samples
        whole.effective_lengths += table.effective_lengths
        whole.lengths |= table.lengths
        whole.entries += [(first + sample, numbers[number], count) for sample, number, count in table.entries]
    if len(set(whole.samples)) < len(whole.samples):
        whole.samples = [f"{name}-{i}" for i, name in enumerate(whole.samples)]
    return whole


def gene_of(transcripts: Sequence[str], genes: Any, table: pd.DataFrame | None) -> np.ndarray | None:
    """Gene of each transcript, from a mapping or a column of the table of transcripts; None where it is missing."""
    if genes is None:
        return None if table is None or "gene" not in table else _as_names(table["gene"])
    if isinstance(genes, Mapping | pd.Series):
        lookup = dict(genes)
        absent = [name for name in transcripts if name not in lookup]
        if absent:
            msg = f"genes has no gene of the transcripts {listed(absent)}."
            raise ValueError(msg)
        return _as_names(lookup[name] for name in transcripts)
    found = np.asarray(list(genes), object)
    if len(found) != len(transcripts):
        msg = f"genes must map names of transcripts to genes, or have one for each of {len(transcripts)} transcripts."
        raise ValueError(msg)
    return _as_names(found)


def _as_names(genes: Iterable[Any]) -> np.ndarray:
    return np.array([None if pd.isna(gene) else str(gene) for gene in genes], object)
