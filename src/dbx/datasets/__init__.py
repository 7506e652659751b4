"""Example data: embedded real counts, and counts simulated from a known ground truth; also scanpy's data sets."""

from typing import TYPE_CHECKING

from dbx._lazy import lazy

if TYPE_CHECKING:
    from dbx.datasets.cellphonedb import cellphonedb
    from dbx.datasets.mixology import mixology
    from dbx.datasets.simulate import simulate

__all__ = ["cellphonedb", "mixology", "simulate"]

lazy(__name__, {name: name for name in __all__}, scanpys="passed")
