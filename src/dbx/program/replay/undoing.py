"""A program's chain of steps undone on some cells, and compared with what its operators say of their output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from dbx.ops.operator import Operator
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.replay.own_cells import dense_rows, sampled
from dbx.program.replay.plan import Version, read_versions
from dbx.program.slots.slots import Slot, gene_names, read

CLOSE, MOST = 1e-3, 0.95
"""Relative difference within which totals are the same, and the share of the cells that must have them."""

LARGEST_WHOLE = 3e4
"""Above it a logarithm in float32 does not tell whether a number was whole."""


class Sample(NamedTuple):
    """Some cells, with the names of their genes and whether the data have each."""

    values: np.ndarray
    genes: pd.Index
    present: np.ndarray

    def of(self, genes: Any) -> Sample:
        """The same cells with these genes; those that are not there are 0."""
        wanted = self.genes if genes is None else pd.Index(genes)
        at = self.genes.get_indexer(wanted)
        values = np.where(at >= 0, self.values[:, at], 0.0)
        return Sample(values, wanted, (at >= 0) & self.present[at])


class Use(NamedTuple):
    """An operator as a step used it, or might have."""

    step: Step
    operator: Operator


class Verdict(NamedTuple):
    """Whether values can be what steps write; None where they do not tell."""

    fits: bool | None
    evidence: str = ""
    total: float | None = None
    """What each cell sums to where that is one number for all, but not the reference's."""
    expected: float | None = None
    by: str = ""
    """The step that sets the total."""
    over_all: bool = False
    """Cells have that total over all genes of the data, but not over those of the program."""


def chain_of(registry: Registry, root: Version) -> list[Use]:
    """The steps that change a matrix in its slot, one after the other, from its first version on."""
    chain: list[Use] = []
    version = root
    while True:
        following = [step for step in registry if step.why_missing() is None and _changes(registry, step, version)]
        if not following or any(use.step is following[0] for use in chain):
            return chain
        chain.append(Use(following[0], following[0].build()))
        version = Version(root.slot, following[0].id)


def sample_of(data, place: Slot) -> Sample:
    """Some cells of a gene matrix."""
    value = read(data, place)
    genes = gene_names(data, place)
    first = ~genes.duplicated()
    values = dense_rows(value, sampled(value))[:, first]
    return Sample(values, genes[first], np.ones(int(first.sum()), bool))


def judged(sample: Sample, chain: Sequence[Use]) -> Verdict:
    """Whether a sample can be what these steps write, the last one last."""
    for use in reversed(chain):
        part = sample.of(use.step.genes)
        counted = use.operator.counted_totals(part.values)
        if counted is not None:
            verdict = _compared(*counted, use.step.name, complete=bool(part.present.all()))
            return verdict._replace(over_all=not verdict.fits and _fits_over_all(use, sample, part))
        if not part.present.all() and use.step.arrays:
            return Verdict(None)
        with np.errstate(over="ignore", invalid="ignore"):
            undone = use.operator.undone(part.values if use.step.arrays else sample.values)
        if undone is None:
            return Verdict(None)
        sample = part._replace(values=undone) if use.step.arrays else sample._replace(values=undone)
    return Verdict(whole_numbers(sample.values), "whole numbers before it")


def _compared(totals: np.ndarray, expected: float, by: str, *, complete: bool) -> Verdict:
    """Totals of cells against what a step gives each."""
    totals = totals[np.isfinite(totals) & (totals != 0)]
    if not len(totals):
        return Verdict(None)
    if _share(totals, expected) >= MOST:
        return Verdict(True, f"each cell sums to {expected:.6g} after {by!r}", None, expected, by)
    if not complete:
        return Verdict(None, "", None, expected, by)
    middle = float(np.median(totals))
    return Verdict(False, "", middle if middle > 0 and _share(totals, middle) >= MOST else None, expected, by)


def _fits_over_all(use: Use, sample: Sample, part: Sample) -> bool:
    """Whether totals are the reference's with the genes that the program does not know."""
    if len(sample.genes) <= int(part.present.sum()):
        return False
    totals, expected = use.operator.counted_totals(part.values) or (np.empty(0), 1.0)
    unknown = ~sample.genes.isin(part.genes)
    totals = totals + sample.values[:, unknown].sum(axis=1)
    return bool(len(totals)) and _share(totals[totals != 0], expected) >= MOST


def _share(totals: np.ndarray, expected: float) -> float:
    return float(np.mean(np.abs(totals / expected - 1) < CLOSE))


def whole_numbers(values: np.ndarray) -> bool:
    """Whether values are counts, up to rounding in float32: of large values it cannot be known."""
    if not np.isfinite(values).all() or values.min(initial=0) < -0.01:
        return False
    positive = values[values > 0.5]
    small = positive[positive < LARGEST_WHOLE]
    tolerance = 1e-3 + 3e-6 * small
    near_zero = np.abs(values[values <= 0.5]) < 1e-3
    return len(small) > len(positive) / 2 and bool(
        near_zero.all() and (np.abs(small - np.rint(small)) < tolerance).all()
    )


def _changes(registry: Registry, step: Step, version: Version) -> bool:
    """Whether a step reads a version of a matrix and writes the next into the same slot, for any cells."""
    reads = any(version in read_versions(registry, step, entry) for entry in step.reads.values())
    outputs = step.operator_class.outputs
    return reads and any(
        slot == version.slot and name in outputs and not outputs[name].view for name, slot in step.writes.items()
    )


def root_of(registry: Registry, step: Step, slot: Slot) -> Version | None:
    """The first version of a slot, from which a step made what it wrote there."""
    for _ in range(len(registry)):
        entry = next((entry for entry in step.reads.values() if slot in entry.slots), None)
        if entry is None:
            return None
        version = next(v for v in read_versions(registry, step, entry) if v.slot == slot)
        source = registry.by_id(version.writer)
        if source is None:
            return version if entry.content == "counts" else None
        step = source
    return None
