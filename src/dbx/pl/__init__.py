"""Plots of what scanpy has no plot for; the rest is drawn by ``scanpy.pl``, whose keys dbx writes."""

from dbx.pl.program import program
from dbx.pl.volcano import volcano

__all__ = ["program", "volcano"]
