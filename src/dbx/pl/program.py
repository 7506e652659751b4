"""The recorded program as a graph."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from matplotlib.path import Path as MplPath

from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._layers import depths, layered
from dbx.program.record.copies import other_names
from dbx.program.record.listing import COLOURS
from dbx.program.record.registry import Registry, load
from dbx.program.record.step import Step
from dbx.program.record.table import status
from dbx.program.replay.plan import Version, read_versions
from dbx.program.slots.slots import Slot

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
WIDTH, HEIGHT, MARGIN = 0.92, 0.56, 0.1


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
    roots = [node for node, step in nodes.items() if step is None]
    places, routes = layered(list(nodes), edges, depths(list(nodes), edges, roots))
    edges_of_boxes = [x + side * WIDTH / 2 for x, _ in places.values() for side in (-1, 1)]
    across = edges_of_boxes + [x for route in routes for x, _ in route]
    left, right = min(across) - MARGIN, max(across) + MARGIN
    bottom = max(y for _, y in places.values())
    ax = axes(ax, (max(2.1 * (right - left), 4.0), 0.6 + 0.85 * (bottom + 1)))
    for (_, _, label), route in zip(edges, routes, strict=True):
        _draw_edge(ax, route, label)
    for node, place in places.items():
        step = nodes[node]
        if step is None:
            _draw_root(ax, place, [node.slot, *other_names(registry, node.slot)])
        else:
            _draw_step(ax, place, step, status(registry, step))
    ax.set_xlim(left, right)
    ax.set_ylim(bottom + HEIGHT / 2 + MARGIN, -HEIGHT / 2 - MARGIN)
    ax.set_axis_off()
    if title:
        ax.set_title(title, fontsize=10)
    seen = {status(registry, step) for step in registry} & set(MEANING)
    for i, kind in enumerate(sorted(seen)):
        box: dict[str, Any] = {"facecolor": FILL[kind], "edgecolor": "#888888", "linewidth": 0.6, "pad": 2}
        ax.text(0.01, -0.02 - 0.05 * i, MEANING[kind], color="#444444", transform=ax.transAxes, fontsize=7, bbox=box)
    return finish(ax, "program", show=show, save=save, return_fig=return_fig)


def _graph(registry: Registry) -> tuple[dict[str | Version, Step | None], list[tuple]]:
    """Nodes (steps, and slots that no step wrote, those of the same values as one) and edges (from, to, slots)."""
    nodes: dict[str | Version, Step | None] = {}
    edges: dict[tuple, list[str]] = {}
    for step in registry:
        nodes[step.name] = step
        for read in step.reads.values():
            for version in read_versions(registry, step, read):
                source = registry.by_id(version.writer)
                start = _root(registry, nodes, version) if source is None else source.name
                nodes.setdefault(start, None)
                edges.setdefault((start, step.name), []).append("" if source is None else version.slot)
        if (chooser := registry.by_id(step.select_source)) is not None:
            edges.setdefault((chooser.name, step.name), []).append(str(step.select))
    return nodes, [(*ends, _label(slots)) for ends, slots in edges.items()]


def _root(registry: Registry, nodes: Mapping[str | Version, Any], version: Version) -> Version:
    """The node of a value from outside: one for all slots that held the same."""
    names = [] if version.reader is not None else other_names(registry, version.slot)
    return next((known for name in names if (known := Version(name, None)) in nodes), version)


def _label(slots: list[str]) -> str:
    """What an edge carries, the first of several slots."""
    several = list(dict.fromkeys(slots))
    return several[0] + (", ..." if len(several) > 1 else "")


def _draw_root(ax: Axes, place: tuple[float, float], slots: list[Slot]) -> None:
    ax.add_patch(_box(place, "slot", edgecolor="#bbbbbb", linestyle=":"))
    text = " = ".join(slots)
    ax.text(*place, text, ha="center", va="center", fontsize=8, color="#555555", zorder=4)


def _draw_step(ax: Axes, place: tuple[float, float], step: Step, kind: str) -> None:
    x, y = place
    ax.add_patch(_box(place, kind, edgecolor="#888888"))
    written = _written(step)
    up = 0.1 + 0.05 * written.count("\n")
    ax.text(x, y - up, step.name, ha="center", va="center", fontsize=8.5, weight="bold", zorder=4)
    ax.text(x, y + 0.12, written, ha="center", va="center", fontsize=6.5, color="#444444", linespacing=1.1, zorder=4)


def _box(place: tuple[float, float], kind: str, **line: Any) -> FancyBboxPatch:
    x, y = place
    return FancyBboxPatch(
        (x - WIDTH / 2, y - HEIGHT / 2),
        WIDTH,
        HEIGHT,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=FILL[kind],
        linewidth=0.8,
        zorder=3,
        **line,
    )


def _draw_edge(ax: Axes, route: list[tuple[float, float]], label: str) -> None:
    """A curve between the layers, straight through those it passes; labelled where it spans one layer."""
    points = [(x, y + side * HEIGHT / 2) for x, y in route for side in (-1, 1)][1:-1]
    points[-1] = (points[-1][0], points[-1][1] - 0.03)
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
