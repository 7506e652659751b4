"""dbx: a scanpy analysis as one program - recorded, rerun on new cells, differentiated, optimised.

What needs JAX is imported when it is first used, so that ``import dbx`` is cheap.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dbx import pp, tl  # names only: which call makes which slot is known from here on
from dbx._scanpys import scanpys_own
from dbx._version import __version__
from dbx._warnings import DbxWarning
from dbx.settings import settings

if TYPE_CHECKING:
    from dbx import datasets, experimental, external, get, losses, ops, pl
    from dbx.fasta_files import read_fasta
    from dbx.own_steps import register_step, step
    from dbx.program import Pipeline, adopt, optimize, rerun, sensitivity, steps
    from dbx.quant_files import read_quant

__all__ = [
    "DbxWarning",
    "Pipeline",
    "__version__",
    "adopt",
    "datasets",
    "experimental",
    "external",
    "get",
    "losses",
    "ops",
    "optimize",
    "pl",
    "pp",
    "read_fasta",
    "read_quant",
    "register_step",
    "rerun",
    "sensitivity",
    "settings",
    "step",
    "steps",
    "tl",
]


NOT_PASSED = ("Neighbors",)
"""Names of scanpy's at the top that compute on cells."""


def __getattr__(name: str):
    if name not in __all__:
        return scanpys_own(__name__, name, passes=name not in NOT_PASSED)
    if find_spec(f"dbx.{name}"):
        return import_module(f"dbx.{name}")
    if name in ("register_step", "step"):
        return getattr(import_module("dbx.own_steps"), name)
    if name == "read_fasta":
        return import_module("dbx.fasta_files").read_fasta
    if name == "read_quant":
        return import_module("dbx.quant_files").read_quant
    return getattr(import_module("dbx.program"), name)


def __dir__() -> list[str]:
    return __all__
