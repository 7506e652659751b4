"""Streamlines of velocities in an embedding."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dbx.ops.checks import check_above_zero
from dbx.pl._cells import coloured_by, draw_cells
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import INK, tidy
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N_GRID = 50
"""Grid points along each axis."""
FULL = 95
"""Percentile of the mass of grid points that counts as dense."""


class Field(NamedTuple):
    """Velocities on a grid."""

    x: np.ndarray
    """Array of shape (N_GRID,)."""
    y: np.ndarray
    velocity: np.ndarray
    """Array of shape (2, N_GRID, N_GRID), first over y; NaN where there are few cells."""


@doc_params(figure=FIGURE)
def velocity_stream(
    adata: AnnData,
    basis: str = "umap",
    *,
    vkey: str = "velocity",
    color: str | None = None,
    density: float = 1.5,
    smooth: float = 1.0,
    min_mass: float = 0.05,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw velocities as streamlines in an embedding.

    A grid point has the Gaussian-weighted mean of the arrows of the cells around it. Lines are thicker where velocities
    are larger. Streamlines look certain whatever the velocities are: see ``obs["velocity_confidence"]``.

    Parameters
    ----------
    adata
        Data with arrows of :func:`dbx.tl.velocity_embedding`.
    basis
        Name of the embedding: ``"umap"`` for ``obsm["X_umap"]``.
    vkey
        Key of the velocities.
    color
        Column of ``obs``, or name of a gene, to colour cells by.
    density
        Density of the streamlines.
    smooth
        Width of the Gaussian in spacings of the grid, of which there are 50 along each axis.
    min_mass
        Grid points with less than this fraction of the cells around dense ones have no line.
    title
        Title of the figure.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There are no arrows, no such embedding or no such column.
    ValueError
        The embedding does not have two dimensions.
    """
    check_above_zero(smooth, "smooth")
    basis = basis.removeprefix("X_")
    x = np.asarray(read(adata, Slot("obsm", (f"X_{basis}",))), float)
    arrows = np.asarray(read(adata, Slot("obsm", (f"{vkey}_{basis}",))), float)
    if x.shape[1] != 2:
        msg = (
            f"Streamlines need an embedding of 2 dimensions; obsm['X_{basis}'] has {x.shape[1]}. Compute one, such as "
            "dbx.tl.umap(adata), and dbx.tl.velocity_embedding(adata, basis='umap') in it."
        )
        raise ValueError(msg)
    column = None if color is None else coloured_by(adata, color)
    ax = axes(ax, (6.0, 5.0))
    draw_cells(ax, x, column)
    field = on_grid(x, np.nan_to_num(arrows), smooth=smooth, min_mass=min_mass)
    speed = np.sqrt((field.velocity**2).sum(axis=0))
    width = 0.4 + 1.4 * np.nan_to_num(speed / max(np.nanmax(speed, initial=0), 1e-12))
    ax.streamplot(
        field.x,
        field.y,
        field.velocity[0],
        field.velocity[1],
        density=density,
        color=INK,
        linewidth=width,
        arrowsize=0.9,
        zorder=3,
    )
    tidy(ax, f"{basis} 1", f"{basis} 2", "" if title is None else title)
    ax.set(xticks=[], yticks=[])
    return finish(ax, f"{vkey}_stream_{basis}", show=show, save=save, return_fig=return_fig)


def on_grid(x: np.ndarray, arrows: np.ndarray, *, smooth: float, min_mass: float) -> Field:
    """Means of arrows of shape (n_cells, 2) around the points of a grid over positions of the same shape."""
    from scipy.spatial import cKDTree

    low, high = x.min(axis=0), x.max(axis=0)
    pad = 0.02 * (high - low)
    sides = [np.linspace(low[i] - pad[i], high[i] + pad[i], N_GRID) for i in range(2)]
    points = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    spacing = np.maximum([side[1] - side[0] for side in sides], 1e-12)
    k = int(np.clip(len(x) // N_GRID, min(10, len(x)), 200))
    distances, nearest = cKDTree(x / spacing).query(points / spacing, k=k)
    weights = np.exp(-0.5 * (distances.reshape(len(points), k) / smooth) ** 2)
    mass = weights.sum(axis=1)
    velocity = (weights[:, :, None] * arrows[nearest.reshape(len(points), k)]).sum(axis=1)
    velocity /= np.maximum(mass, 1e-300)[:, None]
    velocity[mass < min_mass * np.percentile(mass, FULL)] = np.nan
    return Field(sides[0], sides[1], velocity.T.reshape(2, N_GRID, N_GRID))
