"""dbx: a scanpy analysis as one program - recorded, rerun on new cells, differentiated, optimised."""

from dbx import datasets, get, losses, ops, pl, pp, tl
from dbx._version import __version__
from dbx.program import Pipeline, rerun, steps
from dbx.settings import settings

__all__ = [
    "Pipeline",
    "__version__",
    "datasets",
    "get",
    "losses",
    "ops",
    "pl",
    "pp",
    "rerun",
    "settings",
    "steps",
    "tl",
]
