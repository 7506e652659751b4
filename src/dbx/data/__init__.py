"""Row blocks and minibatches over arrays of every kind, independent of AnnData."""

from dbx.data.blocks import Block, RowBlocks, is_backed, is_dask

__all__ = ["Block", "RowBlocks", "is_backed", "is_dask"]
