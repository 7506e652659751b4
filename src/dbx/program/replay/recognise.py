"""What new cells that are not counts hold: what a step of the program writes, or what mistake explains it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

import numpy as np

from dbx.ops.state import rebuild
from dbx.program import log
from dbx.program.record.registry import Registry
from dbx.program.record.step import Step
from dbx.program.replay.undoing import Sample, Use, Verdict, chain_of, judged, root_of, sample_of, whole_numbers
from dbx.program.slots.checks import LOOKS_LIKE
from dbx.program.slots.slots import Slot

LARGEST_LOG = 30.0
"""No logarithm of a count is larger."""
FAR = 2.0
"""A factor between totals that no other depth of sequencing explains."""


def recognised(data, place: Slot, chain: Sequence[Use]) -> tuple[Step, str] | None:
    """The step of a chain that writes what is in a slot, and why; None for values that are no such thing at all.

    Raises
    ------
    ValueError
        No step writes such values, or it cannot be told: the message says what they look like.
    """
    sample = sample_of(data, place)
    if not np.isfinite(sample.values).all() or whole_numbers(sample.values):
        return None
    prefixes = [chain[: i + 1] for i in range(len(chain))]
    verdicts = [judged(sample, prefix) for prefix in prefixes]
    for prefix, verdict in zip(prefixes, verdicts, strict=True):
        if verdict.fits:
            return prefix[-1].step, verdict.evidence
    _refuse(sample, place, chain, verdicts)


def check_named(data, place: Slot, registry: Registry, step: Step, slot: Slot) -> None:
    """Refuse values that a step named as the start cannot have written, as far as they tell.

    Raises
    ------
    ValueError
        They are counts, of another base, total or number of logarithms, or what another step of the chain writes.
    """
    root = root_of(registry, step, slot)
    chain = [] if root is None else chain_of(registry, root)
    names = [use.step.name for use in chain]
    if step.name not in names or not slot.is_gene_matrix:
        return
    sample = sample_of(data, place)
    own = chain[: names.index(step.name) + 1]
    verdict = judged(sample, own)
    if verdict.fits:
        return
    said = f"start={step.name!r}: {place.written()} holds"
    problem = _problem(sample, chain, step, slot, verdict)
    if problem is not None:
        msg = f"{said} {problem}"
        raise ValueError(msg)
    if verdict.fits is False:
        known = verdict.total is not None or verdict.over_all
        other = f"that {_totals(verdict)}" if known else f"whose totals differ, where {_expected(own)}"
        log.warn(f"{said} cells {other}.")


def _problem(sample: Sample, chain: Sequence[Use], step: Step, slot: Slot, verdict: Verdict) -> str | None:
    """Why values are certainly not what a step wrote, None where they may be."""
    content = step.content.get(slot)
    if whole_numbers(sample.values) and content not in (None, "counts"):
        return "whole numbers, as raw counts are, not what that step writes. Leave start out to begin at counts."
    ends = (chain[: i + 1] for i in range(len(chain)))
    other = next((end[-1].step.name for end in ends if judged(sample, end).fits), None)
    if other is not None:
        return f"what step {other!r} writes: pass start={other!r}."
    if content in ("counts", "normalized", "log") and sample.values.min(initial=0) < 0:
        return f"values below zero (smallest {sample.values.min():.4g}), which that step does not write. {CURE}"
    if verdict.fits is None:
        return None
    looks = _mistaken(sample, chain)
    if looks is None and verdict.total is not None and _far(verdict):
        looks = f"cells that {_totals(verdict)}"
    return None if looks is None else f"{looks}. {CURE}"


CURE = "Bring the new cells to the reference's scale, or pass raw counts."


def _refuse(sample: Sample, place: Slot, chain: Sequence[Use], verdicts: Sequence[Verdict]) -> NoReturn:
    first = chain[0].step.name
    values = sample.values
    if values.min(initial=0) < 0:
        holds = f"negative values (smallest {values.min():.4g})"
    else:
        holds = f"fractional values (such as {values[values != np.rint(values)][0]:.6g})"
    looks = _mistaken(sample, chain)
    content = _content(sample)
    if looks is None:
        told = (verdict for verdict in verdicts if verdict.total is not None or verdict.over_all)
        looks = next((f"cells that {_totals(verdict)}" for verdict in told), None)
    start = next((use.step for use in reversed(chain) if content in use.step.content.values()), None)
    if looks is not None:
        looks = f"It looks like {looks}. {CURE}"
    elif start is not None and verdicts[[use.step for use in chain].index(start)].fits is None:
        looks = _cannot_tell(sample, place, chain, start, content)
    else:
        what = f"{LOOKS_LIKE[content]}, but not as a step of the program writes them: {_expected(chain)}"
        looks = f"It looks like {what}. {CURE}"
    where = f'Counts in another slot: inputs={{"{place}": "layers/counts"}}.'
    msg = f"Step {first!r} needs raw counts, but {place.written()} has {holds}. {looks} {where}"
    raise ValueError(msg)


def _cannot_tell(sample: Sample, place: Slot, chain: Sequence[Use], start: Step, content: str) -> str:
    genes = next((use.step.genes for use in chain if use.step.genes is not None), None)
    there = 0 if genes is None else int(sample.of(genes).present.sum())
    few = (
        f", as only {there} of the {len(genes)} genes of {chain[0].step.name!r} are there"
        if genes is not None and there < len(genes)
        else ""
    )
    return (
        f"It looks like {LOOKS_LIKE[content]}, but whether they are on the reference's scale cannot be checked{few}. "
        f"If they are what step {start.name!r} writes, pass start={start.name!r}."
    )


def _mistaken(sample: Sample, chain: Sequence[Use]) -> str | None:
    """What mistake explains the values, None if none does."""
    return next((said for said, uses in _mistakes(chain) if judged(sample, uses).fits), None)


def _mistakes(chain: Sequence[Use]) -> Iterator[tuple[str, list[Use]]]:
    """(in words, steps as they would have run) of usual mistakes: another setting, a step twice, or one left out."""
    for end in range(1, len(chain) + 1):
        prefix = list(chain[:end])
        for i, use in enumerate(prefix):
            for settings in use.operator.alternatives:
                config = {**use.operator.config, **settings}
                if config == dict(use.operator.config):
                    continue
                other = rebuild(type(use.operator), config, use.step.arrays)
                given = ", ".join(f"{name}={value!r}" for name, value in settings.items())
                known = ", ".join(f"{name}={use.operator.config[name]!r}" for name in settings)
                said = f"what step {use.step.name!r} writes with {given}, but the reference has {known}"
                yield said, [*prefix[:i], Use(use.step, other), *prefix[i + 1 :]]
    for end in range(1, len(chain) + 1):
        prefix = list(chain[:end])
        yield f"what is left when step {prefix[-1].step.name!r} runs twice", [*prefix, prefix[-1]]
        for i, use in enumerate(prefix[:-1]):
            said = f"what step {prefix[-1].step.name!r} writes without step {use.step.name!r} before it"
            yield said, [*prefix[:i], *prefix[i + 1 :]]


def _totals(verdict: Verdict) -> str:
    if verdict.over_all:
        return (
            f"each sum to {verdict.expected:.6g} over all their genes, where those of the reference do over the genes "
            f"of step {verdict.by!r} alone"
        )
    return (
        f"each sum to {verdict.total:.6g} where step {verdict.by!r} of the reference gives each a total of "
        f"{verdict.expected:.6g}"
    )


def _expected(chain: Sequence[Use]) -> str:
    for use in reversed(chain):
        genes = 1 if use.step.genes is None else len(use.step.genes)
        counted = use.operator.counted_totals(np.ones((1, genes)))
        if counted is not None:
            return f"step {use.step.name!r} of the reference gives each cell a total of {counted[1]:.6g}"
    return f"the reference starts from counts, at step {chain[0].step.name!r}"


def _far(verdict: Verdict) -> bool:
    ratio = (verdict.total or 1.0) / (verdict.expected or 1.0)
    return not 1 / FAR <= ratio <= FAR


def _content(sample: Sample) -> str:
    """What values look like by their range."""
    if sample.values.min(initial=0) < 0:
        return "scaled"
    return "log" if sample.values.max(initial=0) < LARGEST_LOG else "normalized"
