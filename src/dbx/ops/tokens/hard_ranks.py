"""Genes of a cell in the order of their values."""

from __future__ import annotations

from dbx.ops.arrays import array_library

PAD = -1
"""Token of an empty place."""


def ranked_genes(values, length: int):
    """Codes of the genes with values above 0, highest first, in ``length`` places; -1 where there are no more.

    Equal values stand in the order of their codes. ``values`` is an array of shape (n_cells, n_genes), the result one
    of shape (n_cells, length), int32.
    """
    library = array_library(values)
    order = library.argsort(-values, axis=1, stable=True)[:, :length]
    there = library.take_along_axis(values, order, axis=1) > 0
    return library.where(there, order, PAD).astype("int32")
