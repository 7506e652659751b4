"""Simulated doublets of an AnnData, by the samples of the cells they are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.droplets.scrublet import Passed
from dbx.ops.droplets.scrublet_sample import Simulated
from dbx.program import Slot, as_codes, holder, matrix_slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def given_doublets(
    adata: AnnData | MuData, adata_sim: AnnData, batch_key: str | None, layer: str | None, mod: str | None
) -> tuple[Passed, float]:
    """The doublets of each sample, and their number per cell."""
    cells = holder(adata, Slot("obs", mod=mod))
    pairs = checked_parents(adata_sim, cells, read(adata, Slot.parse(matrix_slot(layer), mod)).shape[1])
    parameters: Any = adata_sim.uns.get("scrublet", {}).get("parameters", {})
    ratio = parameters.get("sim_doublet_ratio") or len(pairs) / max(cells.n_obs, 1)
    x = sparse.csr_matrix(RowBlocks(adata_sim.X).rows(slice(None)))
    if batch_key is None:
        return Passed({"": Simulated(x, pairs, ratio)}), ratio
    batch = as_codes(read(adata, Slot("obs", (batch_key,), mod)))
    codes = np.asarray(batch.codes)
    samples = of_samples(adata_sim, batch_key, codes, batch.levels, pairs)
    place = np.zeros(cells.n_obs, np.int64)
    for code in range(len(batch.levels)):
        place[codes == code] = np.arange((codes == code).sum())
    found = {}
    for code, name in enumerate(batch.levels):
        mine = np.flatnonzero(samples == code)
        if not len(mine):
            msg = (
                f"adata_sim has no doublets of {name!r}. Simulate them within samples: "
                f"dbx.pp.scrublet_simulate_doublets(adata, batch_key={batch_key!r})."
            )
            raise ValueError(msg)
        of_cells = pairs[mine]
        known = (of_cells < cells.n_obs).all() and (codes[of_cells] == code).all()
        found[name] = Simulated(x[mine], place[of_cells] if known else of_cells, ratio)
    return Passed(found), ratio


def of_samples(adata_sim: AnnData, key: str, codes: np.ndarray, levels: tuple[str, ...], pairs: np.ndarray):
    """The sample of each doublet, -1 for one of cells of two samples."""
    if key in adata_sim.obs:
        names = pd.Index(levels)
        return names.get_indexer(adata_sim.obs[key].astype(str))
    first, second = codes[pairs].T
    return np.where(first == second, first, -1)


def checked_parents(adata_sim: AnnData, cells: AnnData, n_columns: int) -> np.ndarray:
    """The cells that each doublet is made of, after a look at whether they can be these cells."""
    if "doublet_parents" not in adata_sim.obsm:
        msg = (
            "adata_sim.obsm has no 'doublet_parents': simulate doublets by dbx.pp.scrublet_simulate_doublets(adata), "
            "then normalise both alike."
        )
        raise ValueError(msg)
    if adata_sim.n_vars != n_columns:
        msg = (
            f"adata_sim has {adata_sim.n_vars} genes and adata {n_columns}: select the same genes in both, e.g. before "
            "doublets are simulated."
        )
        raise ValueError(msg)
    pairs = np.asarray(adata_sim.obsm["doublet_parents"])
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0 or pairs.min() < 0 or pairs.max() >= cells.n_obs:
        msg = (
            f"adata_sim.obsm['doublet_parents'] must have two rows of adata, from 0 to {cells.n_obs - 1}, for each "
            f"doublet; got an array of shape {pairs.shape}"
            + (f" with values from {pairs.min()} to {pairs.max()}." if pairs.size else ".")
        )
        raise ValueError(msg)
    return pairs.astype(np.int64)
