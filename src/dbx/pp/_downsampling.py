"""Counts drawn by scanpy's function, as an operator."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from typing import Any, ClassVar

import anndata
import jax
import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks, is_dask
from dbx.data.moments import whole_parts
from dbx.ops.callbacks import on_host
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.quality.counting import totals


class DownsampleCounts(Operator):
    """Counts drawn from those of each cell, or from all counts together.

    Each cell is drawn from with the same seed, so that one number of counts for every cell is a rule for any cell.

    New cells: counts are drawn down to the same number per cell, with the same seed; refused where the numbers were
    given cell by cell or as a total of all cells.
    """

    name = "downsample_counts"
    inputs: ClassVar = {"x": Input(genes=True, content=("counts",))}
    outputs: ClassVar = {"x": Output(dtype=None, content="counts")}
    rowwise = True
    sparse = True
    host = True

    def __init__(
        self,
        *,
        counts_per_cell: int | tuple[int, ...] | None = None,
        total_counts: int | None = None,
        replace: bool = False,
    ):
        self.counts_per_cell, self.total_counts, self.replace = counts_per_cell, total_counts, replace

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[Operator]:
        return DownsampleCounts if isinstance(config.get("counts_per_cell"), int) else OfTheseCells

    @classmethod
    def listed(cls, config: Mapping[str, Any]) -> dict[str, Any]:
        per_cell = config.get("counts_per_cell")
        return {**config, "counts_per_cell": per_cell if isinstance(per_cell, int | None) else "one for each cell"}

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Keep the seed."""
        self.seed = Constant(np.asarray(seed, np.uint32))

    def check_differentiable(self) -> None:
        msg = "counts drawn at random have no gradient. Start from what it wrote."
        raise ValueError(msg)

    def __call__(self, x):
        if not isinstance(x, jax.Array):
            return {"x": self._drawn(self.seed[...], x)}
        shape = jax.ShapeDtypeStruct(x.shape, x.dtype)
        (drawn,) = on_host(self._drawn_alone, [shape], jnp.asarray(self.seed[...]), jax.lax.stop_gradient(x))
        return {"x": drawn}

    def _drawn_alone(self, seed, x):
        return (self._drawn(seed, x),)

    def _drawn(self, seed, x):
        """A block with the counts that are drawn; the block is left as it is."""
        import scanpy as sc

        per_cell = self.counts_per_cell if isinstance(self.counts_per_cell, int | None) else list(self.counts_per_cell)
        # scanpy takes no sparse arrays
        drawn = anndata.AnnData(sparse.csr_matrix(x, copy=True) if sparse.issparse(x) else np.array(x))
        settings = {"random_state": int(seed), "replace": self.replace}
        sc.pp.downsample_counts(drawn, per_cell, self.total_counts, **settings)
        return type(x)(drawn.X) if sparse.issparse(x) else drawn.X


class OfTheseCells(DownsampleCounts):
    """Numbers of counts that hold for the fitted cells only, which are known by their totals."""

    __qualname__ = DownsampleCounts.__qualname__
    rowwise = False

    def fit(self, *, x: RowBlocks, seed: int = 0, progress: Progress = silent) -> None:
        """Keep the seed, and a checksum of the totals of the cells."""
        if is_dask(x.source):
            msg = (
                "Counts of a dask array can only be drawn cell by cell, with one number for counts_per_cell. Load it "
                "first: adata.X = adata.X.compute()."
            )
            raise NotImplementedError(msg)
        if isinstance(self.counts_per_cell, tuple) and len(self.counts_per_cell) != x.n_rows:
            msg = (
                f"counts_per_cell must be one number, or have one for each of {x.n_rows} cells; got "
                f"{len(self.counts_per_cell)}."
            )
            raise ValueError(msg)
        super().fit(x=x, seed=seed, progress=progress)
        self.checksum = Constant(np.asarray(_checksum(*(part for _, _, part in whole_parts(x))), np.uint32))

    def _drawn(self, seed, x):
        if _checksum(x) != int(self.checksum[...]):
            given = "an array of counts_per_cell" if self.total_counts is None else "total_counts"
            msg = (
                f"Counts were drawn by {given}, which holds for all of the reference's cells together and not for "
                "these. Draw the counts of the new cells first, then start after the step: "
                'dbx.rerun(query, reference, start="downsample_counts").'
            )
            raise ValueError(msg)
        return super()._drawn(seed, x)


def _checksum(*parts: Any) -> int:
    """Of the totals of cells."""
    sums = [np.asarray(totals(part), np.float64) for part in parts]
    return zlib.crc32(np.concatenate(sums).tobytes())
