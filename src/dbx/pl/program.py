"""The recorded program, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.patches import FancyBboxPatch

from dbx.pl.figure import axes, finish
from dbx.program.plan import Version, read_versions
from dbx.program.registry import Registry, load
from dbx.program.step import Step
from dbx.program.table import status

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

FILL = {"ok": "#dcebf7", "mapped": "#e3f1df", "stale": "#f6e3b5", "gap": "#f5cfc6", "slot": "#f4f4f4"}
MEANING = {"mapped": "fitted on other cells", "stale": "an input ran again since", "gap": "input changed outside dbx"}
WIDTH, HEIGHT = 2.3, 0.62


def program(
    adata: AnnData | MuData,
    *,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the recorded steps as a graph: what each reads, from which step, and what it writes.

    Parameters
    ----------
    adata
        Annotated data with a program in ``uns["dbx"]``.
    title
        Title of the figure.
    ax
        Axes to draw on; new ones by default.
    show
        Show the figure; by default as ``scanpy.settings.autoshow`` says.
    save
        Save it: a path, or True or a suffix for a file in ``scanpy.settings.figdir``.
    return_fig
        Return the figure.

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
        msg = "No program is recorded in this data (uns['dbx']): run dbx.pp and dbx.tl steps first."
        raise ValueError(msg)
    nodes, edges = _graph(registry)
    places = _layout(nodes, edges)
    columns = max(x for x, _ in places.values()) + 1
    rows = max(y for _, y in places.values()) - min(y for _, y in places.values()) + 1
    ax = axes(ax, (max(1.0 + 2.6 * columns, 4), max(0.8 + 0.95 * rows, 2.2)))
    for start, end, label in edges:
        _draw_edge(ax, places[start], places[end], label)
    for node, place in places.items():
        _draw_node(ax, place, node, nodes[node], registry)
    _frame(ax, places, title)
    seen = {status(registry, step) for step in registry} & set(MEANING)
    for i, kind in enumerate(sorted(seen)):
        ax.text(0.01, -0.02 - 0.05 * i, f"■ {MEANING[kind]}", color="#777777", transform=ax.transAxes, fontsize=7)
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


def _layout(nodes, edges) -> dict:
    """Column and row of each node: layered from left to right, few crossings (Sugiyama, by igraph)."""
    import igraph

    order = list(nodes)
    graph = igraph.Graph(directed=True)
    graph.add_vertices(len(order))
    graph.add_edges([(order.index(a), order.index(b)) for a, b, _ in edges])
    depth = dict.fromkeys(order, 0)
    for _ in order:
        for start, end, _ in edges:
            depth[end] = max(depth[end], depth[start] + 1)
    layout = graph.layout_sugiyama(layers=[depth[node] for node in order], hgap=1, vgap=1)
    return {node: (depth[node], -layout[i][0]) for i, node in enumerate(order)}


def _draw_node(ax: Axes, place, node, step: Step | None, registry: Registry) -> None:
    x, y = place[0] * (WIDTH + 1.1), place[1]
    kind = "slot" if step is None else status(registry, step)
    box = FancyBboxPatch(
        (x - WIDTH / 2, y - HEIGHT / 2),
        WIDTH,
        HEIGHT,
        boxstyle="round,pad=0.02,rounding_size=0.08",
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
    ax.text(x, y + 0.12, step.name, ha="center", va="center", fontsize=8.5, weight="bold", zorder=4)
    ax.text(x, y - 0.15, _shortened(step), ha="center", va="center", fontsize=6.5, color="#444444", zorder=4)


def _draw_edge(ax: Axes, start, end, label: str) -> None:
    a = (start[0] * (WIDTH + 1.1) + WIDTH / 2, start[1])
    b = (end[0] * (WIDTH + 1.1) - WIDTH / 2 - 0.03, end[1])
    far = end[0] - start[0] > 1
    ax.annotate(
        "",
        xy=b,
        xytext=a,
        arrowprops={
            "arrowstyle": "-|>",
            "color": "#999999",
            "linewidth": 0.9,
            "connectionstyle": f"arc3,rad={-0.18 if far else 0}",
            "shrinkA": 0,
            "shrinkB": 0,
        },
        zorder=1,
    )
    if label and not far:
        ax.text((a[0] + b[0]) / 2, (a[1] + b[1]) / 2 + 0.08, label, ha="center", fontsize=6, color="#777777", zorder=2)


def _shortened(step: Step) -> str:
    made = ", ".join(slot for slot in step.writes.values() if "uns" not in slot.split("/"))
    return made if len(made) <= 34 else made[:32] + " ..."


def _frame(ax: Axes, places, title: str | None) -> None:
    across = [x * (WIDTH + 1.1) for x, _ in places.values()]
    down = [y for _, y in places.values()]
    ax.set_xlim(min(across) - WIDTH * 0.6, max(across) + WIDTH * 0.6)
    ax.set_ylim(min(down) - 0.7, max(down) + 0.7)
    ax.set_axis_off()
    if title:
        ax.set_title(title, fontsize=10)
