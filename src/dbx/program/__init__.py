"""The program: slots, steps, registry, pipeline; the one place between AnnData and the operators."""

from typing import TYPE_CHECKING

from dbx._lazy import lazy

if TYPE_CHECKING:
    from dbx.program.compat import resolve_seed
    from dbx.program.pipeline.pipeline import Pipeline
    from dbx.program.pipeline.sensitivity import sensitivity
    from dbx.program.record.adopt import adopt
    from dbx.program.record.registry import RegistryError
    from dbx.program.record.run import compute_array, compute_step, run_step
    from dbx.program.record.table import steps
    from dbx.program.replay.reference import ReferenceChangedError
    from dbx.program.replay.rerun import rerun
    from dbx.program.slots.addresses import graph_slot, matrix_slot
    from dbx.program.slots.slots import SlotError
    from dbx.program.training.optimize import optimize
    from dbx.program.wrappers import makes

__all__ = [
    "Pipeline",
    "ReferenceChangedError",
    "RegistryError",
    "SlotError",
    "adopt",
    "compute_array",
    "compute_step",
    "graph_slot",
    "makes",
    "matrix_slot",
    "optimize",
    "rerun",
    "resolve_seed",
    "run_step",
    "sensitivity",
    "steps",
]

lazy(
    __name__,
    {
        "Pipeline": "pipeline.pipeline",
        "ReferenceChangedError": "replay.reference",
        "RegistryError": "record.registry",
        "SlotError": "slots.slots",
        "adopt": "record.adopt",
        "compute_array": "record.run",
        "compute_step": "record.run",
        "graph_slot": "slots.addresses",
        "makes": "wrappers",
        "matrix_slot": "slots.addresses",
        "optimize": "training.optimize",
        "rerun": "replay.rerun",
        "resolve_seed": "compat",
        "run_step": "record.run",
        "sensitivity": "pipeline.sensitivity",
        "steps": "record.table",
    },
)
