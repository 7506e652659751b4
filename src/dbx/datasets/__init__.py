"""Example data: embedded real counts, and counts simulated from a known ground truth; also scanpy's data sets."""

from typing import TYPE_CHECKING

from dbx._lazy import lazy

if TYPE_CHECKING:
    from dbx.datasets.cellphonedb import cellphonedb
    from dbx.datasets.estimate import estimate
    from dbx.datasets.expected_counts import expected_counts, truth
    from dbx.datasets.growth_markers import growth_markers
    from dbx.datasets.mixology import mixology
    from dbx.datasets.simulate import simulate

__all__ = ["cellphonedb", "estimate", "expected_counts", "growth_markers", "mixology", "simulate", "truth"]

lazy(__name__, {name: name for name in __all__} | {"truth": "expected_counts"}, scanpys="passed")
