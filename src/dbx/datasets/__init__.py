"""Data to try things on: embedded real counts, and counts simulated from a known truth."""

from dbx.datasets.mixology import mixology
from dbx.datasets.simulate import simulate

__all__ = ["mixology", "simulate"]
