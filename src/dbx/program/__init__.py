"""The program: slots, steps, registry, pipeline; the one place between AnnData and the operators."""

from dbx.program.adopt import adopt
from dbx.program.compat import resolve_seed
from dbx.program.optimize import optimize
from dbx.program.pipeline import Pipeline
from dbx.program.reference import ReferenceChangedError
from dbx.program.registry import RegistryError
from dbx.program.rerun import rerun
from dbx.program.run import compute_array, compute_step, graph_slot, matrix_slot, run_step
from dbx.program.sensitivity import sensitivity
from dbx.program.slots import SlotError
from dbx.program.table import steps

__all__ = [
    "Pipeline",
    "ReferenceChangedError",
    "RegistryError",
    "SlotError",
    "adopt",
    "compute_array",
    "compute_step",
    "graph_slot",
    "matrix_slot",
    "optimize",
    "rerun",
    "resolve_seed",
    "run_step",
    "sensitivity",
    "steps",
]
