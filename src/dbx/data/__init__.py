"""Row blocks and minibatches over arrays of every kind; knows nothing of biology or AnnData."""

from dbx.data.blocks import Block, RowBlocks, is_backed, is_dask

__all__ = ["Block", "RowBlocks", "is_backed", "is_dask"]
