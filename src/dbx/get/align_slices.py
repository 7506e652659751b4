"""Couplings of aligned slices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from dbx.program.slots.slots import Slot, SlotError, read

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
        There are no couplings, no such slices, or only some of the spots that were aligned.

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
    found = adata.uns.get(key)
    if not isinstance(found, Mapping) or "coupling" not in found:
        msg = f"uns has no couplings of slices in {key!r}: run dbx.tl.align_slices(adata, slice_key) first."
        raise SlotError(msg)
    slices = read(adata, Slot("obs", (slice_key,))).astype(str).to_numpy()
    table = found["coupling"]
    made = {}
    for number, (first, second) in enumerate(zip(found["pairs"]["first"], found["pairs"]["second"], strict=True)):
        some = table[table["pair"] == number]
        rows, columns = (np.flatnonzero(slices == str(name)) for name in (first, second))
        if not (some["first"].isin(rows).all() and some["second"].isin(columns).all()):
            msg = (
                f"The coupling of slices {str(first)!r} and {str(second)!r} has spots that are not theirs here: pass "
                "the data and the slice_key that were aligned, or run dbx.tl.align_slices again."
            )
            raise SlotError(msg)
        entries = np.searchsorted(rows, some["first"]), np.searchsorted(columns, some["second"])
        made[str(first), str(second)] = sparse.csr_matrix(
            (some["mass"].to_numpy(), entries), shape=(len(rows), len(columns))
        )
    return made
