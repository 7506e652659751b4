"""A rerun under way: which steps are applied, which fitted again, and how they are recorded afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from dbx.program.record.registry import Registry, same_outputs
from dbx.program.record.run import Result
from dbx.program.record.step import Step
from dbx.program.replay.location import Location
from dbx.program.replay.mapping import is_selection, kept, mapped, refitted
from dbx.program.replay.plan import Plan, make_plan
from dbx.program.replay.replay import Replay
from dbx.program.replay.start import Start, steps_before
from dbx.program.slots.slots import Slot, holder

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


@dataclass
class Run:
    """Steps of a program, to be run again on some cells."""

    registry: Registry
    reference: AnnData | MuData | None
    """The cells it was fitted on; None where it runs on these."""
    location: Location
    begin: Start | None
    """Where new cells start."""
    changed: Mapping[str, Step]
    """Name -> step with new settings."""
    refit: bool | Literal["continue"]
    missing_genes: str

    @property
    def own(self) -> bool:
        """Whether it runs on the cells that the program was fitted on."""
        return self.reference is None

    @cached_property
    def after(self) -> set[str]:
        """Names of the steps that depend on one with new settings."""
        numbers = [self.registry[name].id for name in self.changed]
        return {step.name for step in self.registry if any(self.registry.depends(step, number) for number in numbers)}

    def fits(self, step: Step) -> bool:
        """Whether a step is fitted again."""
        return bool(self.refit) or step.name in self.changed or step.name in self.after

    def runs(self, step: Step) -> bool:
        """Whether a step has something to compute."""
        done = step.filters("genes") and not (self.own and step.reads)  # genes were drawn once
        return not done and (self.fits(step) or step.maps_cells())

    def planned(self, names: Iterable[str] | None) -> Plan:
        """Which steps run, and what they start from."""
        return make_plan(
            self.registry,
            self.location.available,
            names=names,
            runs=self.runs,
            skipped=self.begin.skipped if self.begin else None,
            genes_removed=self.location.genes_removed,
        )

    def results(self, plan: Plan, whole: AnnData | MuData, target: AnnData | MuData) -> list[Result]:
        """The steps, computed for the cells of ``whole`` and placed in ``target``, which may have fewer genes."""
        source = self.location.of(whole)
        reference = whole if self.reference is None else self.reference
        replay = Replay(self.registry, _n_cells(whole, plan), self.missing_genes, reference=reference)
        replay.env.update({version: source.value(version) for version in plan.roots})
        results: list[Result] = []
        for step in plan.steps:
            replay.n_cells = holder(whole, Slot("obs", mod=step.mod)).n_obs  # modalities may have other cells
            if self.fits(step):
                results.append(self._refitted(target, replay, step, results))
            else:
                reference = target if self.reference is None else self.reference
                results.append(mapped(target, reference, replay, step, own=self.own))
        return results

    def _refitted(self, target, replay: Replay, step: Step, before: list[Result]) -> Result:
        written = {slot: value for result in before for slot, value in result.values.items()}
        new = self.changed.get(step.name)
        if step.name in self.after:  # what it learned was of other values
            step, new = new or step, None
        step = self._after_results(step, before)
        if new is not None:
            new = self._after_results(new, before)
        return refitted(target, replay, step, written, new, keeps=self.refit == "continue")

    def _after_results(self, step: Step, before: list[Result]) -> Step:
        """A step with the settings that the results of the steps before it give."""
        outputs = {self.registry[result.step.name].id: result.outputs for result in before}
        results = {name: outputs[read.source] for name, read in step.reads.items() if read.source in outputs}
        return replace(step, config=step.operator_class.config_after(step.config, results))

    def selections(self, plan: Plan, target: AnnData | MuData) -> list[Result]:
        """Selections of genes made on the reference, which did not run; fitted again, only those that could not."""
        known = {step.name for step in plan.steps}
        others = [step for step in self.registry if step.name not in known and is_selection(step)]
        return [
            kept(target, step)
            for step in others
            if not self.refit or step.filters("genes") or step.name in plan.of_more_genes
        ]

    def recorded(self, plan: Plan, results: list[Result], target: AnnData | MuData) -> list[Step]:
        """The program as these cells have it afterwards."""
        fitted_again = {step.name for step in plan.steps if self.fits(step)}
        again = rewired(self.registry, [result.step for result in results], fitted_again)
        if self.begin is not None:
            again = steps_before(target, self.registry, plan, self.location.of(target)) | again
        return [again.get(step.name, step) for step in self.registry if self.own or step.name in again]


def rewired(registry: Registry, steps: list[Step], fitted_again: set[str]) -> dict[str, Step]:
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
    renamed = {}
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
        renamed[step.name] = replace(step, id=numbers.get(step.id, step.id), reads=reads, select_source=chooser)
    return renamed


def _n_cells(data, plan: Plan) -> int:
    mod = next((step.mod for step in plan.steps), None)
    return holder(data, Slot("obs", mod=mod)).n_obs
