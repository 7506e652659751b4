"""First moments of spliced and unspliced counts among neighbours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dbx.data import RowBlocks
from dbx.ops.checks import check_known, check_layers
from dbx.ops.dynamics.moments import Moments
from dbx.pp.neighbors import neighbors
from dbx.program import Slot, exists, log, looks_like_counts, neighbors_slot, read, run_step
from dbx.program.compat import own_copy

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

N_NEIGHBORS, N_PCS = 30, 30


def moments(
    adata: AnnData | MuData,
    *,
    n_neighbors: int = N_NEIGHBORS,
    n_pcs: int | None = N_PCS,
    mode: Literal["connectivities", "distances"] = "connectivities",
    layers: tuple[str, str] = ("spliced", "unspliced"),
    neighbors_key: str | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Average spliced and unspliced counts over neighbours (Bergen et al., Nature Biotechnology, 2020).

    As ``scvelo.pp.moments``: neighbours are weighted alike, whatever the weight of their edge. Counts are first scaled
    to the median total of the cells, spliced and unspliced ones each to their own; layers that do not hold whole
    numbers are taken as normalised. The layers themselves stay as they are.

    Parameters
    ----------
    adata
        Annotated data with the layers.
    n_neighbors, n_pcs
        For :func:`dbx.pp.neighbors`, which is called if there are no neighbours.
    mode
        Neighbours by ``"connectivities"``, which hold in both directions, or by ``"distances"``, the nearest of each.
    layers
        Names of the layers with spliced and with unspliced counts.
    neighbors_key
        Key of the neighbours in ``uns``; ``"neighbors"`` by default.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``layers["Ms"]``, ``layers["Mu"]``
        Means of spliced and of unspliced counts, arrays of shape (n_cells, n_genes), float32.

    Raises
    ------
    KeyError
        A layer is missing.
    ValueError
        No cell has counts in one of the layers, a value is negative, or only one of the layers holds counts.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 2, 1, seed=0)
    >>> adata.layers["spliced"] = adata.layers["unspliced"] = adata.X.copy()
    >>> dbx.pp.log1p(adata)
    >>> dbx.pp.pca(adata)
    >>> dbx.pp.neighbors(adata)
    >>> dbx.pp.moments(adata)
    >>> adata.layers["Ms"].shape
    (100, 50)
    """
    check_known(mode, ("connectivities", "distances"), "mode")
    data = own_copy(adata, copy=copy)
    normalize = hold_counts(data, layers, mod)
    there = neighbors_key is not None or exists(data, Slot.parse("uns/neighbors", mod))
    if there and (n_neighbors, n_pcs) != (N_NEIGHBORS, N_PCS):
        log.warn(
            f"n_neighbors={n_neighbors} and n_pcs={n_pcs} have no effect, as there are neighbours already: to use "
            f"others, call dbx.pp.neighbors(adata, n_neighbors={n_neighbors}, n_pcs={n_pcs}) before."
        )
    if not there:
        log.info(f"    there are no neighbours: computing {n_neighbors} of each cell")
        neighbors(data, n_neighbors, n_pcs, mod=mod)
    run_step(
        data,
        Moments(normalize=normalize),
        reads={
            "spliced": f"layers/{layers[0]}",
            "unspliced": f"layers/{layers[1]}",
            "graph": neighbors_slot(data, mode, neighbors_key, mod=mod),
        },
        writes={"ms": "layers/Ms", "mu": "layers/Mu"},
        mod=mod,
    )
    return data if copy else None


def hold_counts(data: AnnData | MuData, layers: tuple[str, str], mod: str | None) -> bool:
    """Whether the layers of spliced and unspliced counts hold counts; otherwise they are normalised.

    Raises
    ------
    ValueError
        Only one of them does, or these are not two layers.
    """
    check_layers(layers)
    slots = [Slot("layers", (name,), mod) for name in layers]
    counted = [looks_like_counts(read(data, slot)) for slot in slots]
    if counted[0] != counted[1] and not _has_wrong_values(read(data, slots[counted[0]])):
        which, other = slots if counted[0] else slots[::-1]
        msg = (
            f"{which.written()} holds counts, but {other.written()} does not: use both as counts, or normalise both, "
            f"such as with dbx.pp.normalize_total(adata, layer={which.key!r})."
        )
        raise ValueError(msg)
    return any(counted)


def _has_wrong_values(x: Any) -> bool:
    """Whether there are values that no step takes, whatever the scale: the step says which and where."""
    return any(bool((~(block.rows >= 0)).any()) for block in RowBlocks(x))
