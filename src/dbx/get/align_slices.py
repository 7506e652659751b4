"""Couplings of aligned slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from dbx.program.slots.slots import SlotError

if TYPE_CHECKING:
    from anndata import AnnData


def align_slices(
    adata: AnnData, key: str = "align_slices", *, slice_key: str
) -> dict[tuple[str, str], sparse.csr_matrix]:
    """Couplings that :func:`dbx.tl.align_slices` found.

    Parameters
    ----------
    adata
        Data with aligned slices.
    key
        Key in ``uns``.
    slice_key
        Column of ``obs`` with the slice of each spot.

    Returns
    -------
    For each pair of slices, by their names, the mass that each spot of the first shares with each of the second: a CSR
    matrix whose rows and columns are the spots in the order of ``adata``. ``P @ x`` and ``P.T @ x`` carry values from
    one slice to the other.

    Raises
    ------
    SlotError
        There is no such result.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(80, 50, 3, 1, seed=0)
    >>> adata.obsm["spatial"] = [[i % 8, i // 8 % 5] for i in range(80)]
    >>> adata.obs["slice"] = ["a"] * 40 + ["b"] * 40
    >>> dbx.tl.align_slices(adata, "slice", overlap=1.0)
    >>> dbx.get.align_slices(adata, slice_key="slice")["a", "b"].shape
    (40, 40)
    """
    if key not in adata.uns:
        msg = f"uns has no {key!r}: run dbx.tl.align_slices(adata, slice_key) first."
        raise SlotError(msg)
    found, slices = adata.uns[key], adata.obs[slice_key].astype(str).to_numpy()
    table = found["coupling"]
    made = {}
    for number, (first, second) in enumerate(zip(found["pairs"]["first"], found["pairs"]["second"], strict=True)):
        some = table[table["pair"] == number]
        rows, columns = (_numbers(slices == str(name)) for name in (first, second))
        entries = rows[some["first"]], columns[some["second"]]
        shape = int((slices == str(first)).sum()), int((slices == str(second)).sum())
        made[str(first), str(second)] = sparse.csr_matrix((some["mass"].to_numpy(), entries), shape)
    return made


def _numbers(chosen: np.ndarray) -> np.ndarray:
    """For each cell that is chosen, its number among those."""
    return np.cumsum(chosen) - 1
