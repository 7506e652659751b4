"""Plots of what scanpy has no plot for; the rest is drawn by ``scanpy.pl``, whose keys dbx writes."""

from dbx.pl.program import program

__all__ = ["program"]
