"""The program: slots, steps, registry, pipeline; the one place between AnnData and the operators."""

from typing import TYPE_CHECKING

from dbx._lazy import lazy

if TYPE_CHECKING:  # `as` under the same name is how type checkers are told of an export
    from dbx.program.compat import resolve_seed as resolve_seed
    from dbx.program.pipeline.pipeline import Pipeline as Pipeline
    from dbx.program.pipeline.sensitivity import sensitivity as sensitivity
    from dbx.program.record.commit import all_or_nothing as all_or_nothing
    from dbx.program.record.cut import Drawn as Drawn
    from dbx.program.record.cut import check_removable as check_removable
    from dbx.program.record.on_disk import is_on_disk as is_on_disk
    from dbx.program.record.on_disk import run_on_disk as run_on_disk
    from dbx.program.record.origin import operators_behind as operators_behind
    from dbx.program.record.representation import coordinates_slot as coordinates_slot
    from dbx.program.record.representation import corrected_versions as corrected_versions
    from dbx.program.record.representation import decomposed_slot as decomposed_slot
    from dbx.program.record.representation import representation_slot as representation_slot
    from dbx.program.record.run import compute_array as compute_array
    from dbx.program.record.run import compute_step as compute_step
    from dbx.program.record.run import run_step as run_step
    from dbx.program.record.storage import RegistryError as RegistryError
    from dbx.program.record.table import steps as steps
    from dbx.program.replay.adopt import adopt as adopt
    from dbx.program.replay.reference import ReferenceChangedError as ReferenceChangedError
    from dbx.program.replay.rerun import rerun as rerun
    from dbx.program.slots.addresses import check_key as check_key
    from dbx.program.slots.addresses import expression_slot as expression_slot
    from dbx.program.slots.addresses import graph_slot as graph_slot
    from dbx.program.slots.addresses import matrix_slot as matrix_slot
    from dbx.program.slots.addresses import neighbors_slot as neighbors_slot
    from dbx.program.slots.checks import check_matrix as check_matrix
    from dbx.program.slots.checks import check_not_empty as check_not_empty
    from dbx.program.slots.checks import has_negative as has_negative
    from dbx.program.slots.checks import looks_like_counts as looks_like_counts
    from dbx.program.slots.checks import refuse_counts as refuse_counts
    from dbx.program.slots.checks import refuse_negative as refuse_negative
    from dbx.program.slots.checks import warn_of_counts as warn_of_counts
    from dbx.program.slots.log_base import log_base as log_base
    from dbx.program.slots.slots import Slot as Slot
    from dbx.program.slots.slots import SlotError as SlotError
    from dbx.program.slots.slots import exists as exists
    from dbx.program.slots.slots import gene_names as gene_names
    from dbx.program.slots.slots import holder as holder
    from dbx.program.slots.slots import owner_written as owner_written
    from dbx.program.slots.slots import read as read
    from dbx.program.slots.slots import row_names as row_names
    from dbx.program.slots.slots import unique_gene_names as unique_gene_names
    from dbx.program.slots.stored import as_codes as as_codes
    from dbx.program.slots.writing import assign as assign
    from dbx.program.slots.writing import assigned as assigned
    from dbx.program.training.optimize import optimize as optimize
    from dbx.program.wrappers import call_written as call_written
    from dbx.program.wrappers import makes as makes

_NAMES = {
    "compat": ["resolve_seed"],
    "pipeline.pipeline": ["Pipeline"],
    "pipeline.sensitivity": ["sensitivity"],
    "record.commit": ["all_or_nothing"],
    "record.cut": ["Drawn", "check_removable"],
    "record.on_disk": ["is_on_disk", "run_on_disk"],
    "record.origin": ["operators_behind"],
    "record.representation": [
        "coordinates_slot",
        "corrected_versions",
        "decomposed_slot",
        "representation_slot",
    ],
    "record.run": ["compute_array", "compute_step", "run_step"],
    "record.storage": ["RegistryError"],
    "record.table": ["steps"],
    "replay.adopt": ["adopt"],
    "replay.reference": ["ReferenceChangedError"],
    "replay.rerun": ["rerun"],
    "slots.addresses": ["check_key", "expression_slot", "graph_slot", "matrix_slot", "neighbors_slot"],
    "slots.checks": [
        "check_matrix",
        "check_not_empty",
        "has_negative",
        "looks_like_counts",
        "refuse_counts",
        "refuse_negative",
        "warn_of_counts",
    ],
    "slots.log_base": ["log_base"],
    "slots.slots": [
        "Slot",
        "SlotError",
        "exists",
        "gene_names",
        "holder",
        "owner_written",
        "read",
        "row_names",
        "unique_gene_names",
    ],
    "slots.stored": ["as_codes"],
    "slots.writing": ["assign", "assigned"],
    "training.optimize": ["optimize"],
    "wrappers": ["call_written", "makes"],
}
"""Module -> what it exports from here."""

lazy(__name__, {name: module for module, names in _NAMES.items() for name in names})
