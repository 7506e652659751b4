"""The samples of a differential expression test: their columns, counts and size factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.data.blocks import RowBlocks
from dbx.program import matrix_slot
from dbx.program.slots import Slot, SlotError, read

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Samples:
    """Samples as they were tested: rows of ``adata``, or sums of its cells."""

    frame: pd.DataFrame
    """Columns of ``obs``, for summed cells those of the first cell of each sample."""
    size_factors: np.ndarray
    counts: RowBlocks
    rows: np.ndarray
    """Rows of ``counts`` that belong to a sample, and in ``codes`` to which."""
    codes: np.ndarray

    def count(self, gene: int) -> np.ndarray:
        """Counts of one gene, an array of shape (n_samples,)."""
        return self._summed(self.counts.select(np.array([gene])).dense()[:, 0])

    def library_sizes(self) -> np.ndarray:
        """Total counts, an array of shape (n_samples,)."""
        return self._summed(
            np.concatenate([np.asarray(part.sum(axis=1)).ravel() for _, _, part in self.counts.parts()])
        )

    def column(self, name: str) -> pd.Series:
        """A column of ``obs`` for the samples.

        Raises
        ------
        SlotError
            There is no such column.
        """
        if name not in self.frame:
            msg = f"adata.obs[{name!r}] is missing; adata.obs has {', '.join(map(repr, self.frame)) or 'no column'}."
            raise SlotError(msg)
        return self.frame[name]

    def _summed(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.codes, values[self.rows], minlength=len(self.frame))


def read_samples(adata: AnnData, key: str, group: str | None = None, layer: str | None = None) -> Samples:
    """The samples of a test, of one group if it has groups; ``layer`` is by default the one that was tested.

    Raises
    ------
    SlotError
        There are no size factors, or no such layer.
    ValueError
        There are several groups and none was chosen, or no such group.
    """
    found = adata.uns.get(key, {})
    found = found if isinstance(found, Mapping) else {}
    params = found.get("params", {})
    layer = params.get("layer") if layer is None else layer
    counts = RowBlocks(read(adata, Slot.parse(matrix_slot(layer))), dtype=np.float64)
    if isinstance(found.get("samples"), pd.DataFrame):
        return _summed(adata, found["samples"], params, group, counts)
    if group is not None:
        msg = f"The test {key!r} has no groups: leave group out."
        raise ValueError(msg)
    if "size_factors" not in adata.obs:
        msg = f"adata.obs['size_factors'] is missing. Make it with dbx.tl.de(adata, design=..., key_added={key!r})."
        raise SlotError(msg)
    rows = np.arange(adata.n_obs)
    return Samples(adata.obs, adata.obs["size_factors"].to_numpy(np.float64), counts, rows, rows)


def _summed(adata: AnnData, samples: pd.DataFrame, params: Mapping, group: str | None, counts: RowBlocks) -> Samples:
    """Samples of cells; in ``samples`` their names, size factors and, if there are any, groups."""
    sample_key, group_key = params.get("sample_key"), params.get("group_key")
    for name in filter(None, (sample_key, group_key)):
        if name not in adata.obs:
            msg = f"adata.obs[{name!r}], by which cells were summed, is missing."
            raise SlotError(msg)
    mine = np.ones(adata.n_obs, bool)
    if "group" in samples:
        groups = samples["group"].astype(str)
        group = _one_group(list(dict.fromkeys(groups)), group)
        samples, mine = samples[groups == group], (adata.obs[group_key].astype(str) == group).to_numpy()
    names = pd.Index(samples["sample"].astype(str))
    codes = np.where(mine, names.get_indexer(adata.obs[sample_key].astype(str)), -1)
    if missing := sorted(set(range(len(names))) - set(codes)):
        msg = f"Sample {names[missing[0]]!r} of the test has no cells in adata any more: run dbx.tl.de again."
        raise ValueError(msg)
    rows = np.flatnonzero(codes >= 0)
    first = rows[np.unique(codes[rows], return_index=True)[1]]
    frame = adata.obs.iloc[first].set_axis(names)
    return Samples(frame, samples["size_factor"].to_numpy(np.float64), counts, rows, codes[rows])


def _one_group(tested: list[str], group: str | None) -> str:
    there = ", ".join(map(repr, tested))
    if group is None and len(tested) > 1:
        msg = f"The test has {len(tested)} groups: choose one with group=; there are {there}."
        raise ValueError(msg)
    if group is not None and group not in tested:
        msg = f"Group {group!r} was not tested; there are {there}."
        raise ValueError(msg)
    return tested[0] if group is None else group
