"""The program: slots, steps, registry, pipeline; the one place between AnnData and the operators."""

from dbx.program.compat import resolve_seed
from dbx.program.run import compute_array, compute_step, graph_slot, matrix_slot, run_step

__all__ = ["compute_array", "compute_step", "graph_slot", "matrix_slot", "resolve_seed", "run_step"]
