"""Density of cells in an embedding by scanpy, recorded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dbx.program import Slot, check_key, read
from dbx.tl._groups import check_groups
from dbx.tl._scanpys import conclude

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

N_DIMS = 2
"""Dimensions of a density."""


def embedding_density(
    adata: AnnData | MuData,
    basis: str = "umap",
    *,
    groupby: str | None = None,
    key_added: str | None = None,
    components: str | Sequence[str] | None = None,
    mod: str | None = None,
) -> None:
    """Estimate the density of cells in an embedding: :func:`scanpy.tl.embedding_density`, recorded.

    On new cells it is skipped, as a conclusion about the cells it was run on.

    Parameters
    ----------
    adata
        The annotated data, with an embedding.
    basis
        The embedding, ``obsm[f"X_{basis}"]``.
    groupby
        Column of ``obs`` with groups, each of which has a density of its own.
    key_added
        Column of ``obs`` to write, by default ``f"{basis}_density"`` or ``f"{basis}_density_{groupby}"``.
    components
        The two dimensions, ``"1,2"`` by default.
    mod
        Modality of a MuData.

    Returns
    -------
    None. Writes:

    ``obs[key_added]``
        Density at each cell, scaled to [0, 1] within its group, float64.
    ``uns[f"{key_added}_params"]``
        ``covariate`` and ``components``.

    Raises
    ------
    KeyError
        There is no such embedding or column.
    ValueError
        A group has fewer than three cells, or there are no such components.
    """
    check_key(key_added)
    basis = "draw_graph_fa" if basis.lower() == "fa" else basis.lower()
    check_components(components, read(adata, Slot("obsm", (f"X_{basis}",), mod)).shape[1], basis)
    if groupby is not None:
        check_groups(adata, [groupby], "embedding_density", mod, cells=N_DIMS + 1)
    usual = f"{basis}_density" + (f"_{groupby}" if groupby else "")
    settings = {"basis": basis, "groupby": groupby, "key_added": key_added, "components": components}
    conclude(
        adata,
        "tl.embedding_density",
        {name: value for name, value in settings.items() if value is not None},
        reads=[f"obsm/X_{basis}", *([f"obs/{groupby}"] if groupby else [])],
        writes=[f"obs/{key_added or usual}", f"uns/{key_added or usual}_params"],
        mod=mod,
    )


def check_components(components: str | Sequence[str] | None, n_columns: int, basis: str) -> None:
    """Refuse anything but two of the columns of an embedding, counted from 1."""
    if components is None:
        return
    numbers = components.split(",") if isinstance(components, str) else [str(number) for number in components]
    known = [str(number) for number in range(1, n_columns + 1)]
    if basis == "diffmap":  # whose first component scanpy leaves out
        known = known[:-1]
    if len(numbers) != N_DIMS or any(number.strip() not in known for number in numbers):
        msg = f"components must be two numbers from 1 to {len(known)}, such as '1,2'; got {components!r}."
        raise ValueError(msg)
