"""The samples of a differential expression test: their columns, counts and size factors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import listed
from dbx.program import matrix_slot
from dbx.program.slots.slots import Slot, SlotError, read

if TYPE_CHECKING:
    from anndata import AnnData


@dataclass(frozen=True)
class Samples:
    """The tested samples: rows of ``adata``, or sums of its cells."""

    frame: pd.DataFrame
    """Columns of ``obs``; for summed cells, those of the first cell of each sample."""
    size_factors: np.ndarray
    counts: RowBlocks
    rows: np.ndarray
    """Rows of ``counts`` that belong to a sample; ``codes`` says which."""
    codes: np.ndarray
    slot: Slot
    """Slot of the counts."""

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
            msg = f"adata.obs[{name!r}] is missing; adata.obs has {listed(self.frame) or 'no column'}."
            raise SlotError(msg)
        return self.frame[name]

    def _summed(self, values: np.ndarray) -> np.ndarray:
        return np.bincount(self.codes, values[self.rows])


def read_samples(adata: AnnData, key: str, group: str | None = None, layer: str | None = None) -> Samples:
    """The samples of a test, of one group if it has groups; ``layer`` is by default the tested one.

    Raises
    ------
    SlotError
        There are no size factors, or no such layer.
    ValueError
        There are several groups and none was chosen, or no such group.
    """
    slots = tested_slots(adata, key)
    slot = Slot.parse(matrix_slot(layer) if layer else slots["counts"])
    counts = RowBlocks(read(adata, slot), dtype=np.float64)
    samples = adata.uns[key].get("samples") if isinstance(adata.uns.get(key), Mapping) else None
    if samples is not None:
        frame, factors, rows, codes = _summed(adata, samples, slots, key, group)
        return Samples(frame, factors, counts, rows, codes, slot)
    _refuse(group)
    if "size_factors" not in adata.obs:
        msg = f"adata.obs['size_factors'] is missing; run dbx.tl.de(adata, design=..., key_added={key!r})."
        raise SlotError(msg)
    rows = np.arange(adata.n_obs)
    return Samples(adata.obs, adata.obs["size_factors"].to_numpy(np.float64), counts, rows, rows, slot)


def tested_slots(adata: AnnData, key: str) -> dict[str, str]:
    """Slots of the tested ``counts`` (X by default) and, where cells were summed, of their ``sample`` and ``group``."""
    return {"counts": "X", **adata.uns.get(key, {}).get("reads", {})}


def _summed(adata: AnnData, samples: pd.DataFrame, slots: dict[str, str], key: str, group: str | None):
    """(columns, size factors, rows, codes) of summed cells; ``samples`` lists their names, groups and size factors."""
    if "sample" not in slots:
        msg = f"adata.uns[{key!r}]['reads'] lacks the columns by which cells were summed; run dbx.tl.de again."
        raise SlotError(msg)
    keys = {name: read(adata, Slot.parse(slots[name])).astype(str) for name in ("sample", "group") if name in slots}
    mine = np.ones(adata.n_obs, bool)
    if "group" not in samples:
        _refuse(group)
    else:
        groups = samples["group"].astype(str)
        group = _one_group(list(dict.fromkeys(groups)), group)
        samples, mine = samples[(groups == group).to_numpy()], (keys["group"] == group).to_numpy()
    names = pd.Index(samples["sample"].astype(str))
    codes = np.where(mine, names.get_indexer(keys["sample"]), -1)
    if missing := sorted(set(range(len(names))) - set(codes)):
        msg = f"Sample {names[missing[0]]!r} of the test has no cells left in adata; run dbx.tl.de again."
        raise ValueError(msg)
    rows = np.flatnonzero(codes >= 0)
    first = rows[np.unique(codes[rows], return_index=True)[1]]
    frame = adata.obs.iloc[first].set_axis(names)
    return frame, samples["size_factor"].to_numpy(np.float64), rows, codes[rows]


def _refuse(group: str | None) -> None:
    if group is not None:
        msg = f"The test has no groups, so that group={group!r} does not exist; leave group out."
        raise ValueError(msg)


def _one_group(tested: list[str], group: str | None) -> str:
    there = ", ".join(map(repr, tested))
    if group is None and len(tested) > 1:
        msg = f"The test has {len(tested)} groups; pass group=, one of {there}."
        raise ValueError(msg)
    if group is not None and group not in tested:
        msg = f"Group {group!r} was not tested; the test has {there}."
        raise ValueError(msg)
    return tested[0] if group is None else group
