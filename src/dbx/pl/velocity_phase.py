"""Phase portraits: unspliced against spliced counts of a gene."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap

from dbx.ops.checks import UnknownNameError, as_names, listed
from dbx.ops.dynamics.recover_dynamics import RATES
from dbx.ops.dynamics.splicing import Curve
from dbx.pl._cells import coloured_by, draw_cells, point_size
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import finish, panels
from dbx.pl._palette import DOWN, INK, RASTERIZED_FROM, REST, UP, tidy
from dbx.program.slots.slots import Slot, exists, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SIGNS = LinearSegmentedColormap.from_list("velocity", [DOWN, REST, UP])
"""Colours of velocities below, at and above 0."""


@doc_params(figure=FIGURE)
def velocity_phase(
    adata: AnnData,
    var_names: str | Sequence[str],
    *,
    vkey: str = "velocity",
    xkey: str = "Ms",
    ukey: str = "Mu",
    color: str | None = None,
    ncols: int = 3,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw unspliced against spliced counts of genes, with their fitted curve or steady-state line.

    The curve of :func:`dbx.tl.recover_dynamics` is solid while a gene is induced, dashed while it is repressed; its
    steady states are on the thin line. Without one, the line is that which velocities are measured from.

    Cells above the line are being induced, those below repressed. A gene that tells about velocity has a loop around
    its line; a cloud on both sides of it tells nothing.

    Parameters
    ----------
    adata
        Data with moments of :func:`dbx.pp.moments`, and velocities of :func:`dbx.tl.velocity` for the line.
    var_names
        Names of genes.
    vkey
        Key of the velocities.
    xkey
        Layer of spliced counts.
    ukey
        Layer of unspliced counts.
    color
        Column of ``obs``, or name of a gene, to colour cells by; by default the velocity of the gene.
    ncols
        Genes in a row.
    title
        Title of the figure; by default the name of the gene, and the likelihood of its curve or the slope and
        coefficient of determination of its line.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes of the last gene with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There are no moments, no such gene or no such column.
    """
    genes = as_names(var_names, "var_names")
    unknown = [name for name in genes if name not in adata.var_names]
    if unknown or not genes:
        msg = f"var_names has {listed(unknown) or 'no names'}, which are not among the genes."
        raise UnknownNameError(msg)
    column = None if color is None else coloured_by(adata, color)
    layers = [read(adata, Slot("layers", (name,))) for name in (xkey, ukey)]
    grid = panels(ax, len(genes), ncols, (3.6, 3.2), "gene")
    for i, (gene, place) in enumerate(zip(genes, grid, strict=True)):
        at = adata.var_names.get_loc(gene)
        points = np.column_stack([_column(layer, at) for layer in layers])
        _cells(place, adata, points, column, vkey, at, legend=i == len(genes) - 1)
        found = _curve(place, adata, at) or _line(place, adata, points[:, 0], vkey, at)
        tidy(place, f"spliced ({xkey})", f"unspliced ({ukey})", f"{gene}{found}" if title is None else title)
    return finish(grid[-1], f"{vkey}_phase", show=show, save=save, return_fig=return_fig)


def _column(layer, at: int) -> np.ndarray:
    values = layer[:, [at]]
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, float).ravel()


def _cells(ax: Axes, adata, points: np.ndarray, column: pd.Series | None, vkey: str, at: int, *, legend: bool) -> None:
    layer = Slot("layers", (vkey,))
    if column is not None or not exists(adata, layer):
        draw_cells(ax, points, column, legend=legend)
        return
    velocity = _column(read(adata, layer), at)
    limit = max(float(np.nanpercentile(np.abs(velocity), 95)) if np.isfinite(velocity).any() else 0.0, 1e-12)
    size = point_size(len(points))
    look: dict[str, Any] = {"s": size, "linewidths": 0, "rasterized": len(points) > RASTERIZED_FROM}
    figure: Any = ax.figure
    shown = ax.scatter(points[:, 0], points[:, 1], c=velocity, cmap=SIGNS, vmin=-limit, vmax=limit, alpha=0.8, **look)
    bar = figure.colorbar(shown, ax=ax, fraction=0.04, pad=0.02)  # each gene has its own range
    bar.outline.set_visible(False)
    bar.set_label(vkey)


def _line(ax: Axes, adata, spliced: np.ndarray, vkey: str, at: int) -> str:
    """Draw the steady-state line, if there is one; returns what to write of it."""
    if f"{vkey}_gamma" not in adata.var:
        return ""
    gamma = float(adata.var[f"{vkey}_gamma"].iloc[at])
    offset = float(adata.var[f"{vkey}_offset"].iloc[at]) if f"{vkey}_offset" in adata.var else 0.0
    ends = np.array([0, spliced.max()])
    ax.plot(ends, offset + gamma * ends, color=INK, linewidth=1.2, linestyle=(0, (4, 2)), zorder=4)
    used = bool(adata.var[f"{vkey}_genes"].iloc[at])
    r2 = float(adata.var[f"{vkey}_r2"].iloc[at])
    return f": slope {gamma:.2f}, R² {r2:.2f}{'' if used else ', not used'}"


def _curve(ax: Axes, adata, at: int) -> str:
    """Draw the fitted kinetics, if there are any; returns what to write of them."""
    if "fit_alpha" not in adata.var or not np.isfinite(adata.var["fit_alpha"].iloc[at]):
        return ""
    fit = {name: float(adata.var[f"fit_{name}"].iloc[at]) for name in (*RATES, "u0", "s0", "likelihood")}
    rate = fit["beta"] * fit["scaling"]
    top = np.array([fit["alpha"] / fit["beta"]]), np.array([fit["alpha"] / fit["gamma"]])
    curve = Curve(*top, np.array([fit["gamma"] / rate]), np.array([fit["t_"] * rate]))
    for on, end, style in ((True, curve.switch, "-"), (False, curve.rest, (0, (3, 1.5)))):
        t = np.linspace(0, 1, 200)[:, None] ** 2 * end
        u, s = curve.at(np.full(t.shape, on), t)
        ax.plot(s + fit["s0"], u + fit["u0"], color=INK, linewidth=1.6, linestyle=style, zorder=4)
    reached = curve.at(np.full((1, 1), True), curve.switch[None])
    slope, right = float(top[0][0] / top[1][0]), float(reached[1].item())
    ends = np.array([0.0, right])
    ax.plot(ends + fit["s0"], slope * ends + fit["u0"], color=INK, linewidth=0.8, linestyle=(0, (1, 2)), zorder=4)
    return f": likelihood {fit['likelihood']:.2f}"
