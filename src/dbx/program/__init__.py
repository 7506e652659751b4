"""The program: slots, steps, registry, pipeline; the one place between AnnData and the operators."""

from typing import TYPE_CHECKING

from dbx._lazy import lazy

if TYPE_CHECKING:
    from dbx.program.compat import resolve_seed
    from dbx.program.pipeline.pipeline import Pipeline
    from dbx.program.pipeline.sensitivity import sensitivity
    from dbx.program.record.adopt import adopt
    from dbx.program.record.on_disk import is_on_disk, run_on_disk
    from dbx.program.record.representation import corrected_versions, representation_slot
    from dbx.program.record.run import compute_array, compute_step, run_step
    from dbx.program.record.storage import RegistryError
    from dbx.program.record.table import steps
    from dbx.program.replay.reference import ReferenceChangedError
    from dbx.program.replay.rerun import rerun
    from dbx.program.slots.addresses import check_key, graph_slot, matrix_slot
    from dbx.program.slots.checks import check_matrix, looks_like_counts
    from dbx.program.slots.slots import Slot, SlotError, exists, gene_names, holder, read, row_names
    from dbx.program.slots.stored import as_codes
    from dbx.program.slots.writing import assign, assigned
    from dbx.program.training.optimize import optimize
    from dbx.program.wrappers import makes

__all__ = [
    "Pipeline",
    "ReferenceChangedError",
    "RegistryError",
    "Slot",
    "SlotError",
    "adopt",
    "as_codes",
    "assign",
    "assigned",
    "check_key",
    "check_matrix",
    "compute_array",
    "compute_step",
    "corrected_versions",
    "exists",
    "gene_names",
    "graph_slot",
    "holder",
    "is_on_disk",
    "looks_like_counts",
    "makes",
    "matrix_slot",
    "optimize",
    "read",
    "representation_slot",
    "rerun",
    "resolve_seed",
    "row_names",
    "run_on_disk",
    "run_step",
    "sensitivity",
    "steps",
]

lazy(
    __name__,
    {
        "Pipeline": "pipeline.pipeline",
        "ReferenceChangedError": "replay.reference",
        "RegistryError": "record.storage",
        "Slot": "slots.slots",
        "SlotError": "slots.slots",
        "adopt": "record.adopt",
        "as_codes": "slots.stored",
        "assign": "slots.writing",
        "assigned": "slots.writing",
        "check_key": "slots.addresses",
        "check_matrix": "slots.checks",
        "compute_array": "record.run",
        "compute_step": "record.run",
        "corrected_versions": "record.representation",
        "exists": "slots.slots",
        "gene_names": "slots.slots",
        "graph_slot": "slots.addresses",
        "holder": "slots.slots",
        "is_on_disk": "record.on_disk",
        "looks_like_counts": "slots.checks",
        "makes": "wrappers",
        "matrix_slot": "slots.addresses",
        "optimize": "training.optimize",
        "read": "slots.slots",
        "representation_slot": "record.representation",
        "rerun": "replay.rerun",
        "resolve_seed": "compat",
        "row_names": "slots.slots",
        "run_on_disk": "record.on_disk",
        "run_step": "record.run",
        "sensitivity": "pipeline.sensitivity",
        "steps": "record.table",
    },
)
