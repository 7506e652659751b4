"""LISI: how well batches mix and cell types stay separate around each cell."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from dbx.data.blocks import RowBlocks
from dbx.ops.batch.lisi import lisi as inverse_simpson
from dbx.ops.graph.host_weights import pair_distances
from dbx.ops.graph.knn_host import find_neighbors
from dbx.ops.graph.metrics import METRICS
from dbx.ops.operator import Input, silent
from dbx.program import Slot, as_codes, assign, check_matrix, read, row_names

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def lisi(
    adata: AnnData | MuData,
    keys: str | Sequence[str],
    *,
    use_rep: str = "X_pca",
    perplexity: float = 30,
    n_neighbors: int | None = None,
    inplace: bool = True,
    mod: str | None = None,
) -> pd.DataFrame | None:
    """Local inverse Simpson's index (Korsunsky et al., Nature Methods, 2019).

    The effective number of labels among a cell's nearest neighbours. For batches it measures mixing (iLISI, higher is
    better), for cell types separation (cLISI, 1 is best). The reference implementation is
    :func:`harmonypy.compute_lisi`, which gives the same numbers; neighbours are exact. A metric: it is not recorded as
    a step of the program.

    Parameters
    ----------
    adata
        The annotated data, with an embedding.
    keys
        Column of ``adata.obs`` with the labels, or several.
    use_rep
        Entry of ``adata.obsm`` in which neighbours are found, by Euclidean distance.
    perplexity
        Effective number of neighbours; nearer ones have larger weights.
    n_neighbors
        Number of neighbours; three times ``perplexity`` by default, or all other cells if there are fewer.
    inplace
        Write into ``adata``; otherwise return the result and write nothing.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or with ``inplace=False`` a DataFrame with one column for each key. Writes:

    ``adata.obs[f"lisi_{key}"]``
        The index, from 1 to the number of labels, float64.

    Raises
    ------
    KeyError
        There is no such column or embedding.
    ValueError
        Fewer cells than ``perplexity`` needs, a missing label, or NaN in the embedding.
    """
    keys = [keys] if isinstance(keys, str) else list(keys)
    slot = Slot.parse(f"obsm/{use_rep}", mod)
    blocks = RowBlocks(read(adata, slot))
    check_matrix(blocks, Input(), slot, None, "lisi")
    codes = {key: _codes(adata, Slot.parse(f"obs/{key}", mod)) for key in keys}
    width = min(n_neighbors or int(3 * perplexity), blocks.n_rows - 1)
    if not 1 <= perplexity < width:
        msg = (
            f"perplexity={perplexity} needs more neighbours than the {width} there are: "
            f"choose it between 1 and {width}, better below {max(width // 3, 2)}."
        )
        raise ValueError(msg)
    x = blocks.dense()
    indices = find_neighbors(x, width, "euclidean", {}, "exact", None, silent).indices
    distances = pair_distances(x, x, indices, METRICS["euclidean"])
    found = {
        f"lisi_{key}": inverse_simpson(distances, labels.codes[indices], perplexity, n_levels=labels.n_levels)
        for key, labels in codes.items()
    }
    if not inplace:
        return pd.DataFrame(found, index=row_names(adata, slot))
    assign(adata, {Slot.parse(f"obs/{name}", mod): values for name, values in found.items()})
    return None


def _codes(adata, slot: Slot):
    column = pd.Series(read(adata, slot))
    missing = int(column.isna().sum())
    if missing:
        msg = f"{slot.written()} has {missing} missing values: label these cells or leave them out first."
        raise ValueError(msg)
    return as_codes(column)
