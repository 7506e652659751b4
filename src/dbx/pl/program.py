"""The recorded program as a graph."""

from __future__ import annotations

import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as MplPath

from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.program.record.listing import COLOURS
from dbx.program.record.registry import Registry, load
from dbx.program.record.step import Step
from dbx.program.record.table import status
from dbx.program.replay.plan import Version, read_versions

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

FILL = {**COLOURS, "slot": "#f4f4f4"}
MEANING = {
    "mapped": "fitted on other cells",
    "stale": "an input ran again since",
    "gap": "input changed outside dbx",
    "outside": "input computed outside dbx",
}
WIDTH, HEIGHT = 0.92, 0.56


@doc_params(figure=FIGURE)
def program(
    adata: AnnData | MuData,
    *,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the recorded steps as a graph: the slots each step reads and writes, and which step wrote them.

    Parameters
    ----------
    adata
        Annotated data with a program in ``uns["dbx"]``.
    title
        Title of the figure.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    ValueError
        No program is recorded.
    """
    registry = load(adata)
    if not len(registry):
        msg = "No program is recorded in uns['dbx']; run dbx.pp and dbx.tl functions first."
        raise ValueError(msg)
    nodes, edges = _graph(registry)
    places, routes = _layout(list(nodes), edges)
    across = [x for x, _ in places.values()] + [x for route in routes for x, _ in route]
    down = [y for _, y in places.values()]
    ax = axes(ax, (max(1.0 + 2.1 * (max(across) - min(across) + 1), 4.0), 0.6 + 0.85 * (max(down) + 1)))
    for (_, _, label), route in zip(edges, routes, strict=True):
        _draw_edge(ax, route, label)
    for node, place in places.items():
        _draw_node(ax, place, node, nodes[node], registry)
    ax.set_xlim(min(across) - 0.62, max(across) + 0.62)
    ax.set_ylim(max(down) + 0.5, min(down) - 0.5)
    ax.set_axis_off()
    if title:
        ax.set_title(title, fontsize=10)
    seen = {status(registry, step) for step in registry} & set(MEANING)
    for i, kind in enumerate(sorted(seen)):
        box: dict[str, Any] = {"facecolor": FILL[kind], "edgecolor": "#888888", "linewidth": 0.6, "pad": 2}
        ax.text(0.01, -0.02 - 0.05 * i, MEANING[kind], color="#444444", transform=ax.transAxes, fontsize=7, bbox=box)
    return finish(ax, "program", show=show, save=save, return_fig=return_fig)


def _graph(registry: Registry) -> tuple[dict[str | Version, Step | None], list[tuple]]:
    """Nodes (steps, and slots that no step wrote) and edges (from, to, slot)."""
    nodes: dict[str | Version, Step | None] = {}
    edges = []
    for step in registry:
        nodes[step.name] = step
        for read in step.reads.values():
            for version in read_versions(registry, step, read):
                source = registry.by_id(version.writer)
                start = version if source is None else source.name
                nodes.setdefault(start, None)
                edges.append((start, step.name, "" if source is None else version.slot))
        if (chooser := registry.by_id(step.select_source)) is not None:
            edges.append((chooser.name, step.name, step.select))
    return nodes, edges


def _layout(order: list, edges: list[tuple]) -> tuple[dict, list[list[tuple[float, float]]]]:
    """Position of each node and route of each edge: layered from top to bottom, few crossings (Sugiyama, by igraph).

    An edge across several layers has a way point in each, so that it passes around the boxes there.
    """
    import igraph

    depth = _depths(order, edges)
    layers, chains = [depth[node] for node in order], []
    short: list[tuple[int, int]] = []
    for start, end, _ in edges:
        chain = [order.index(start)]
        for layer in range(depth[start] + 1, depth[end]):
            chain.append(len(layers))
            layers.append(layer)
        chain.append(order.index(end))
        short += pairwise(chain)
        chains.append(chain)
    graph = igraph.Graph(n=len(layers), edges=short, directed=True)
    at = [(x, y) for x, y in graph.layout_sugiyama(layers=layers, hgap=1, vgap=1, maxiter=500)]
    places = {node: at[i] for i, node in enumerate(order)}
    return places, [[at[i] for i in chain] for chain in chains]


def _depths(order: list, edges: list[tuple]) -> dict:
    """Layer of each node: below all that it reads; a slot that no step wrote is right above its first reader."""
    depth = dict.fromkeys(order, 0)
    for _ in order:
        for start, end, _ in edges:
            depth[end] = max(depth[end], depth[start] + 1)
    for node in order:
        if not isinstance(node, str):
            depth[node] = min(depth[end] for start, end, _ in edges if start == node) - 1
    return depth


def _draw_node(ax: Axes, place, node, step: Step | None, registry: Registry) -> None:
    x, y = place
    kind = "slot" if step is None else status(registry, step)
    box = FancyBboxPatch(
        (x - WIDTH / 2, y - HEIGHT / 2),
        WIDTH,
        HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=FILL[kind],
        edgecolor="#888888" if step else "#bbbbbb",
        linewidth=0.8,
        linestyle="-" if step else ":",
        zorder=3,
    )
    ax.add_patch(box)
    if step is None:
        ax.text(x, y, node.slot, ha="center", va="center", fontsize=8, color="#555555", zorder=4)
        return
    written = _written(step)
    up = 0.1 + 0.05 * written.count("\n")
    ax.text(x, y - up, step.name, ha="center", va="center", fontsize=8.5, weight="bold", zorder=4)
    ax.text(x, y + 0.12, written, ha="center", va="center", fontsize=6.5, color="#444444", linespacing=1.1, zorder=4)


def _draw_edge(ax: Axes, route: list[tuple[float, float]], label: str) -> None:
    """A curve through the way points, vertical at both ends; labelled where it spans one layer."""
    points = [(route[0][0], route[0][1] + HEIGHT / 2), *route[1:-1], (route[-1][0], route[-1][1] - HEIGHT / 2 - 0.03)]
    vertices, codes = [points[0]], [MplPath.MOVETO]
    for (x0, y0), (x1, y1) in pairwise(points):
        vertices += [(x0, (y0 + y1) / 2), (x1, (y0 + y1) / 2), (x1, y1)]
        codes += [MplPath.CURVE4] * 3
    arrow = FancyArrowPatch(path=MplPath(vertices, codes), arrowstyle="-|>", mutation_scale=9, color="#999999", lw=0.9)
    ax.add_patch(arrow)
    if label and len(points) == 2:
        (x0, y0), (x1, y1) = points
        text = ax.text(
            (x0 + x1) / 2, (y0 + y1) / 2, label, ha="center", va="center", fontsize=6, color="#666666", zorder=2
        )
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.8, "alpha": 0.85})


def _written(step: Step) -> str:
    """What a step writes, in at most two lines."""
    made = ", ".join(dict.fromkeys("/".join(slot.split("/")[:2]) for slot in step.writes.values()))
    lines = textwrap.wrap(made, 40, break_on_hyphens=False)
    return "\n".join(
        lines if len(lines) <= 2 else [lines[0], textwrap.shorten(" ".join(lines[1:]), 40, placeholder=" ...")]
    )
