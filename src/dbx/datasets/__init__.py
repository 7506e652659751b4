"""Example data: embedded real counts, and counts simulated from a known ground truth."""

from dbx.datasets.mixology import mixology
from dbx.datasets.simulate import simulate

__all__ = ["mixology", "simulate"]
