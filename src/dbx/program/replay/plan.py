"""Which recorded steps can run again, in which order, and what they start from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from dbx.program.record.registry import Registry
from dbx.program.record.step import Read, Step
from dbx.program.slots.slots import Slot


class Version(NamedTuple):
    """One version of a slot: the one a step wrote, or one from outside the program."""

    slot: Slot
    writer: int | None
    """Id of the step that wrote it; None for a value from outside."""
    reader: int | None = None
    """Id of a step that read it after it was changed outside dbx; None for what was there first."""


@dataclass
class Plan:
    """Steps to run, versions they start from, and why others are left out."""

    steps: list[Step] = field(default_factory=list)
    roots: list[Version] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)
    of_more_genes: set[str] = field(default_factory=set)
    """Names of the steps that read genes which were removed since."""
    missing: dict[Slot, str] = field(default_factory=dict)
    """Slot -> the step that starts from it, where it is not there."""


def read_versions(registry: Registry, step: Step, read: Read) -> list[Version]:
    """The versions of the slots that feed one input."""
    source = registry.by_id(read.source)
    versions = []
    for slot in read.slots:
        if read.source is not None and (source is None or slot in source.writes.values()):
            versions.append(Version(slot, read.source))
        else:
            versions.append(Version(slot, None, step.id if read.gap else None))
    return versions


def make_plan(
    registry: Registry,
    available: Callable[[Version], bool],
    *,
    names: Iterable[str] | None = None,
    runs: Callable[[Step], bool] = Step.maps_cells,
    skipped: Mapping[int, str] | None = None,
    genes_removed: Callable[[Step, Version], str | None] = lambda step, version: None,
) -> Plan:
    """Plan a rerun that starts at the earliest version of each input that is available.

    ``names`` are the steps wanted, by default all whose results are still there; what they need of others comes along.
    ``skipped`` are ids of steps that must not run, and why.
    """
    skipped = skipped or {}
    planner = _Planner(registry, available, runs, skipped, genes_removed)
    if names is None:
        wanted = [step for step in registry if runs(step) and registry.current(step) and step.id not in skipped]
    else:
        wanted = [registry[name] for name in names]
    for step in wanted:
        reason = planner.why_not(step)
        if reason is not None:
            planner.plan.excluded[step.name] = reason
    chosen = planner.needed([step for step in wanted if step.name not in planner.plan.excluded])
    planner.plan.steps = [step for step in registry if step.id in chosen]
    planner.plan.roots = planner.roots(planner.plan.steps)
    return planner.plan


class _Planner:
    def __init__(self, registry: Registry, available, runs, skipped: Mapping[int, str], genes_removed):
        self.registry, self.available, self.runs, self.skipped = registry, available, runs, skipped
        self.genes_removed = genes_removed
        self.plan = Plan()
        self._why: dict[int, str | None] = {}

    def why_not(self, step: Step) -> str | None:
        """Why a step cannot run, None if it can."""
        if step.id not in self._why:
            self._why[step.id] = self._reason(step)
        return self._why[step.id]

    def _reason(self, step: Step) -> str | None:
        if step.id in self.skipped:
            return self.skipped[step.id]
        if (missing := step.why_missing()) is not None:
            return f"it {missing}"
        if not self.runs(step):
            return "it computes nothing for cells"
        for name, read in step.reads.items():
            if step.operator_class.inputs[name].can_lack:
                continue
            for version in read_versions(self.registry, step, read):
                reason = self._why_no_version(step, read, version)
                if reason is not None:
                    return reason
        return None

    def _why_no_version(self, step: Step, read: Read, version: Version) -> str | None:
        source = self.registry.by_id(version.writer)
        if version.writer is not None and source is None:
            return f"it is stale: the step that wrote the {version.slot} it read was run again since. Run it again too"
        if source is not None and self.why_not(source) is None:
            return None
        if self.available(version):
            removed = self.genes_removed(step, version)
            if removed is not None:
                self.plan.of_more_genes.add(step.name)
            return removed
        if version.reader is not None:
            return f"{version.slot} was changed outside dbx after {read.gap!r} and before {step.name!r} read it"
        if source is not None:
            return f"it needs {version.slot} of {source.name!r}, which cannot run ({self.why_not(source)})"
        self.plan.missing.setdefault(version.slot, step.name)
        return f"{version.slot}, which it starts from, is not there"

    def needed(self, steps: list[Step]) -> set[int]:
        """Ids of the steps to run for these: themselves and what can be computed of what they read."""
        ids: set[int] = set()
        queue = list(steps)
        while queue:
            step = queue.pop()
            if step.id in ids:
                continue
            ids.add(step.id)
            for read in step.reads.values():
                for version in read_versions(self.registry, step, read):
                    source = self.registry.by_id(version.writer)
                    if source is not None and self.why_not(source) is None:
                        queue.append(source)
        return ids

    def roots(self, steps: list[Step]) -> list[Version]:
        """Versions that must be there at the start."""
        made = {step.id for step in steps}
        roots: dict[Version, None] = {}
        for step in steps:
            for name, read in step.reads.items():
                can_lack = step.operator_class.inputs[name].can_lack
                for version in read_versions(self.registry, step, read):
                    if version.writer not in made and not (can_lack and not self.available(version)):
                        roots[version] = None
        return list(roots)


def excluded_text(excluded: Mapping[str, str]) -> str:
    """Why steps are left out, a sentence each."""
    return " ".join(f"Step {name!r} cannot be rerun: {reason}." for name, reason in excluded.items())
