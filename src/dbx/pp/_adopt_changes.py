"""What changed a matrix between two recorded steps: functions of scanpy that give the values that were read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from dbx.data.blocks import RowBlocks
from dbx.ops.batch.combat import Combat
from dbx.ops.normalization.log1p import Log1p
from dbx.ops.normalization.normalize_total import NormalizeTotal
from dbx.ops.normalization.pearson_residuals import PearsonResiduals
from dbx.ops.normalization.regress_out import RegressOut
from dbx.ops.normalization.scale import Scale
from dbx.ops.normalization.sqrt import Sqrt
from dbx.ops.operator import Constant, Operator
from dbx.pp._adopt_checks import clip_of, depth_of, is_standardised, rounded, row_sums, sample
from dbx.pp._adopt_links import Link, applied, columns_read
from dbx.pp._adopt_matrices import looks_negative, rewritten
from dbx.pp.normalize_pearson_residuals import finite
from dbx.program.record.copies import surely_same
from dbx.program.record.prints import print_of, print_read
from dbx.program.record.step import Read, Step
from dbx.program.replay.adopt import Adoption
from dbx.program.slots.fingerprint import had_negative, near, ratio, shared_entries_near
from dbx.program.slots.slots import Slot, exists, gene_names, read, slots_beside

MOST_COLUMNS = 12
"""Numeric columns of obs that are tried for ``regress_out``, singly and in pairs."""
MOST_LEVELS = 50
UNRELATED = 1e-2
"""Median correlation of genes with a column that was regressed out, where values were clipped since."""
UNCLIPPED = 0.9
"""Fraction of entries that clipping must have left, so that undoing ``scale`` can be compared."""
TOLERANCE = 1e-3
"""Maximum error of values computed again, relative to the largest."""


@dataclass
class Change:
    """Values that a step read, or that are there now, and the step that wrote what they were made from."""

    slot: Slot
    print_: np.ndarray
    before: Step
    """The last step that wrote the slot before, or read it where no step wrote it."""
    values: Any | None
    """The values, where they are still there."""

    @property
    def source(self) -> int | None:
        """Id of the step that wrote what was changed, None where the program started from it."""
        return self.before.id if self.slot in self.before.writes.values() else None

    @property
    def content(self) -> str | None:
        """What the slot held before."""
        read_there = (entry.content for entry in self.before.reads.values() if self.slot in entry.slots)
        return self.before.content.get(self.slot) if self.source is not None else next(read_there, None)


def find_changes(adoption: Adoption) -> None:
    """Record what changed a matrix after a step wrote it, where functions of scanpy give its values."""
    tried: list[Change] = []
    while True:
        change = next((c for c in changes(adoption) if not any(_equal(c, old) for old in tried)), None)
        if change is None:
            return
        tried.append(change)
        _adopt(adoption, change)


def changes(adoption: Adoption) -> Iterator[Change]:
    """Every change of a gene matrix that the program knows of."""
    adata, registry = adoption.adata, adoption.registry
    for step in registry:
        for entry in step.reads.values():
            slot = entry.slots[0]
            known = print_read(step, slot)
            before = _before(adoption, entry)
            if before is not None and slot.is_gene_matrix and slot.mod is None and known is not None:
                yield Change(slot, known, before, _still_there(adata, slot, known))
    x = Slot("X")
    if exists(adata, x):
        entry, print_ = adoption.read_of(x)
        before = _before(adoption, entry)
        if before is not None and print_ is not None:
            yield Change(x, print_, before, read(adata, x))


def _before(adoption: Adoption, entry: Read) -> Step | None:
    """The step whose output was changed before it was read."""
    return next((step for step in adoption.registry if step.name == entry.gap), None)


def _still_there(adata, slot: Slot, known: np.ndarray) -> Any | None:
    for place in [slot, *slots_beside(adata, slot)]:
        if exists(adata, place) and surely_same(slot, known, print_of(adata, place, read(adata, place))):
            return read(adata, place)
    return None


def _equal(a: Change, b: Change) -> bool:
    return a.slot == b.slot and a.before.id == b.before.id and surely_same(a.slot, a.print_, b.print_)


def _adopt(adoption: Adoption, change: Change) -> None:
    adata, slot = adoption.adata, change.slot
    did = "read" if change.source is None else "wrote"
    what = f"what changed {slot.written()} after {change.before.name!r} {did} it"
    start = rewritten(adoption, slot, change.source)
    chain = _undone(adata, change) if start is None else next(_chains(adata, change, start), None)
    if start is None and chain is None:
        adoption.notes.append(
            f"{what} ({slot.written()} as {change.before.name!r} {did} it is gone, and cannot be computed again: keep "
            "raw counts in a layer)."
        )
        return
    if chain is None:
        adoption.notes.append(
            f"{what} (it is neither normalize_total, log1p, sqrt, scale or normalize_pearson_residuals, nor "
            "regress_out on one or two columns of obs, nor combat of one without covariates, nor a combination of "
            "these; record a function of your own by dbx.step)."
        )
        return
    entry = Read(slots=(slot,), source=change.source, content=change.content)
    for i, link in enumerate(chain):
        last = i + 1 == len(chain)
        reads = {"x": entry}
        outside: dict[Slot, np.ndarray] = {}
        for column in link.columns:
            about, print_ = adoption.read_of(Slot("obs", (column,)))
            outside |= {} if print_ is None else {about.slots[0]: print_}
        if link.columns:
            reads[link.port] = columns_read(adoption, link)
        writes = {"x": str(slot)} | _statistics(adata, link.operator)
        names = gene_names(adata, slot)
        known = {slot: change.print_ if last else None}
        step = adoption.record(link.operator, reads, writes, outside=outside, known=known, genes=names)
        entry = Read(slots=(slot,), source=step.id, content=step.content.get(slot))


def _undone(adata, change: Change) -> list[Link] | None:
    """``scale`` by the means and standard deviations in var, where undoing it gives what was there before."""
    if change.values is None or change.slot != "X" or not {"mean", "std"} <= set(adata.var):
        return None
    mean, std = (adata.var[name].to_numpy(np.float64) for name in ("mean", "std"))
    if not is_standardised(change.values, mean, std):
        return None
    values = RowBlocks(change.values, dtype=np.float64).dense()
    centred, clip = bool(values.min() < 0), clip_of(sample(change.values))
    before = print_of(adata, change.slot, values * std + (mean if centred else 0))
    if not shared_entries_near(change.before.fingerprints.get(change.slot), before, TOLERANCE, UNCLIPPED):
        return None
    operator = Scale(zero_center=centred, max_value=clip)
    operator.mean, operator.std = Constant(mean), Constant(std)
    return [Link(operator)]


def _statistics(adata, operator: Operator) -> dict[str, str]:
    """The means and standard deviations that ``scale`` left in var, if they are of this fit."""
    if not isinstance(operator, Scale) or not {"mean", "std"} <= set(adata.var) or len(operator.std) != adata.n_vars:
        return {}
    same = np.allclose(adata.var["std"], operator.std[...], rtol=TOLERANCE)
    return {"mean": "var/mean", "std": "var/std"} if same else {}


def _chains(adata, change: Change, start: Any) -> Iterator[list[Link]]:
    """Chains of functions that make the values of a change from those before it, the shortest first."""
    signed = had_negative(change.print_)
    scales = _scales(change, centred=signed)
    later = change.before.content.get(change.slot) in ("log", "scaled") or looks_negative(start)
    total = [] if later else _totals(adata, change, start)
    logs = [] if later else [Link(Log1p(base=_base(adata)))]
    roots = [] if looks_negative(start) else [Link(Sqrt())]
    shorter = [[link] for link in (*total, *logs, *roots)]
    plain = [[], *shorter, *([t, then] for t in total for then in (*logs, *roots))]
    ends = [[link] for link in scales]
    if not signed:
        yield from _tried(adata, change, start, plain[1:])
    yield from _tried(adata, change, start, [[*first, *end] for end in ends for first in plain])
    adjusted = [[Link(Combat(), (column,))] for column in _batches(adata)]
    if signed:
        residuals = [] if later else [[_residuals(adata, start)]]
        yield from _tried(adata, change, start, residuals)
        regressed = [[Link(RegressOut(), columns)] for columns in _columns(adata, change)]
        yield from _tried(adata, change, start, [[*first, *end] for first in plain for end in regressed])
        yield from _tried(adata, change, start, [[*r, *end] for r in regressed for end in ends])
    yield from _tried(adata, change, start, [[*first, *end] for first in plain for end in adjusted])
    yield from _tried(adata, change, start, [[*a, *end] for a in adjusted for end in ends])


def _tried(adata, change: Change, start: Any, chains: list[list[Link]]) -> Iterator[list[Link]]:
    made: dict[tuple[int, ...], Any] = {}
    for chain in chains:
        values = start
        for i, link in enumerate(chain, start=1):
            key = tuple(map(id, chain[:i]))
            if key not in made:
                made[key] = applied(adata, link, values)
            values = made[key]
            if values is None:
                break
        if values is not None and _matches(adata, change, values):
            yield chain


def _matches(adata, change: Change, values: Any) -> bool:
    if not near(change.print_, print_of(adata, change.slot, values), TOLERANCE):
        return False
    if change.values is None:
        return True
    here, made = sample(change.values), sample(values)
    return bool(np.allclose(here, made, atol=TOLERANCE * np.abs(here).max(), rtol=TOLERANCE))


def _base(adata) -> float | None:
    about = adata.uns.get("log1p", {})
    return about.get("base") if isinstance(about, dict) else None


def _totals(adata, change: Change, start: Any) -> list[Link]:
    """Normalisations to the totals that the values have, to the median, and to usual ones."""
    if looks_negative(start):
        return []
    targets: list[float | None] = [None, 1e4, 1e6]
    if change.values is not None and not looks_negative(change.values):
        here, before = sample(change.values), sample(start)
        sums = [float(np.median(row_sums(values))) for values in (here, here**2)]  # of a root, squares have the total
        found = [*sums, depth_of(here, before, None)]
        targets = [*(target for target in found if target), *targets]
    elif (unit := applied(adata, Link(NormalizeTotal(target_sum=1.0)), start)) is not None:
        one = print_of(adata, change.slot, unit)
        target = None if one is None else ratio(one, change.print_)
        targets = [*([rounded(target)] if target and target > 0 else []), *targets]
    return [Link(NormalizeTotal(target_sum=target)) for target in targets]


def _scales(change: Change, *, centred: bool) -> list[Link]:
    clips: list[float | None] = [None, 10.0]
    if change.values is not None and (clip := clip_of(sample(change.values))) is not None:
        clips = [clip]
    return [Link(Scale(zero_center=centred, max_value=clip)) for clip in clips]


def _residuals(adata, start: Any) -> Link:
    """Pearson residuals with the settings that scanpy noted, or its defaults."""
    about = adata.uns.get("pearson_residuals_normalization", {})
    theta, clip = (about.get(name, usual) for name, usual in (("theta", 100.0), ("clip", None)))
    whole = np.dtype(start.dtype).kind in "biu"
    return Link(PearsonResiduals(**finite(theta, clip), dtype="float64" if whole else None))


def _batches(adata) -> list[str]:
    """Columns of obs that may have been the batches of ``combat``."""
    return [
        str(name)
        for name, column in adata.obs.items()
        if not pd.api.types.is_numeric_dtype(column) and 1 < column.nunique() <= MOST_LEVELS and not column.isna().any()
    ][:MOST_COLUMNS]


def _columns(adata, change: Change) -> Iterator[tuple[str, ...]]:
    """Columns of obs that may have been regressed out: those that no gene follows any more, if that can be seen."""
    numeric = [
        str(name)
        for name, column in adata.obs.items()
        if pd.api.types.is_numeric_dtype(column)
        and not pd.api.types.is_bool_dtype(column)
        and np.isfinite(column).all()
    ]
    categorical = [
        str(name)
        for name, column in adata.obs.items()
        if isinstance(column.dtype, pd.CategoricalDtype) and 1 < len(column.cat.categories) <= MOST_LEVELS
    ]
    if change.values is not None:
        numeric = [name for name in numeric if _unrelated(change.values, adata.obs[name].to_numpy(np.float64))]
        if len(numeric) > 2:
            yield tuple(numeric)
    for size in (1, 2):
        yield from combinations(numeric[:MOST_COLUMNS], size)
    yield from ((name,) for name in categorical)


def _unrelated(values: Any, column: np.ndarray) -> bool:
    genes = np.linspace(0, values.shape[1] - 1, min(values.shape[1], 64)).astype(int)
    x = RowBlocks(values, np.unique(genes), dtype=np.float64).dense()
    centred, x = column - column.mean(), x - x.mean(axis=0)
    size = np.sqrt((x**2).sum(axis=0)) * np.sqrt((centred**2).sum())
    varies = size > 0
    return bool(varies.any() and np.median(np.abs(centred @ x)[varies] / size[varies]) <= UNRELATED)
