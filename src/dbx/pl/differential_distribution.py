"""Distributions of genes in two conditions with their mixtures."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pandas as pd

from dbx.get.differential_distribution import differential_distribution as table_of
from dbx.ops.checks import as_names, check_whole, listed
from dbx.ops.distribution.differential_distribution import DifferentialDistribution
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import finish, panels
from dbx.pl._palette import DOWN, FAINT, INK, UP, tidy
from dbx.program.record.registry import load
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dbx.program.record.step import Step

BANDWIDTH = 0.5
"""Of the violins, in units of the rule of Scott."""
POINTS = 200
MOST_DOTS = 400
"""Cells drawn as dots in each half, at most; the same ones each time."""


@doc_params(figure=FIGURE)
def differential_distribution(
    adata: AnnData,
    genes: str | Iterable[str] | None = None,
    *,
    key: str = "differential_distribution",
    n_genes: int = 6,
    category: str | Iterable[str] | None = None,
    ncols: int = 3,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw the distribution of genes in two conditions, with the mixtures that their classes are based on.

    For each gene the non-zero values of the two conditions as two halves of a violin, smoothed (filled), and the normal
    mixture of each condition (line); dots are cells, and the fraction of zeros is written below each half. A gene that
    does not differ has the same mixture on both sides.

    Parameters
    ----------
    adata
        Data with results of :func:`dbx.tl.differential_distribution`.
    genes
        Genes to draw; by default those with the smallest p-values.
    key
        Key of the results.
    n_genes
        Number of genes, without ``genes``.
    category
        Without ``genes``, only genes of this class or these.
    ncols
        Panels in a row.
    title
        Title, of a single gene.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes of the first gene with ``show=False``, otherwise None.

    Raises
    ------
    SlotError
        There are no such results.
    ValueError
        No such gene, no gene of this class, or the step is not recorded in ``adata``.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.mixology()[:, :60].copy()
    >>> dbx.pp.normalize_total(adata)
    >>> dbx.pp.log1p(adata)
    >>> dbx.tl.differential_distribution(adata, "cell_line", groups=["H1975", "H2228"])
    >>> ax = dbx.pl.differential_distribution(adata, n_genes=2, show=False)
    """
    check_whole(n_genes, 1, "n_genes")
    table = table_of(adata, key, category=category if genes is None else None)
    chosen = list(table["gene"].head(n_genes)) if genes is None else list(map(str, as_names(genes, "genes")))
    if unknown := [gene for gene in chosen if gene not in set(table["gene"])]:
        msg = f"No gene {listed(unknown)} in adata.varm[{key!r}]."
        raise ValueError(msg)
    if not chosen:
        msg = f"No gene is of class {listed(as_names(category, 'category'))}."
        raise ValueError(msg)
    step = _step(adata, key)
    operator = cast(DifferentialDistribution, step.build())
    known = [] if step.genes is None else list(map(str, step.genes))
    groups = read(adata, step.reads["labels"].slots[0]).astype(str).to_numpy()
    rows = table.drop_duplicates("gene").set_index("gene")
    places = panels(ax, len(chosen), ncols, (2.7, 2.9), "gene")
    for place, gene in zip(places, chosen, strict=True):
        values = _values(adata, step.reads["x"].slots[0], gene)
        _draw(place, operator, known.index(gene), [values[groups == g] for g in operator.levels])
        _label(place, gene, rows.loc[gene], operator.levels, title)
    return finish(places[0], key, show=show, save=save, return_fig=return_fig)


def _step(adata: AnnData, key: str) -> Step:
    """The recorded step that wrote the results, with their mixtures."""
    name = DifferentialDistribution.name
    found = [s for s in load(adata) if s.operator == name and Slot.parse(s.writes["table"]).key == key and not s.mapped]
    if not found:
        msg = f"No recorded step of adata wrote varm[{key!r}]: run dbx.tl.differential_distribution on it."
        raise ValueError(msg)
    return max(found, key=lambda step: step.at)


def _values(adata: AnnData, slot: Slot, gene: str) -> np.ndarray:
    matrix = read(adata, slot)
    column = matrix[:, [adata.var_names.get_loc(gene)]]
    return np.asarray(column.toarray() if hasattr(column, "toarray") else column, float).ravel()


def _draw(ax: Axes, operator: DifferentialDistribution, gene: int, halves: list[np.ndarray]) -> None:
    there = [values[values > 0] for values in halves]
    pooled = np.concatenate(there)
    if not len(pooled):
        return
    margin = 0.08 * max(np.ptp(pooled), 0.1)
    grid = np.linspace(pooled.min() - margin, pooled.max() + margin, POINTS)
    rng = np.random.default_rng(0)
    for side, (values, colour) in enumerate(zip(there, (DOWN, UP), strict=True)):
        sign = 2 * side - 1
        curve = operator.density_of(gene, side, grid) if operator.max_components else None
        smooth = _smoothed(values, grid)
        unit = max(smooth.max(initial=0), 0 if curve is None else curve.max(), 1e-12) / 0.42
        ax.fill_betweenx(grid, sign * smooth / unit, 0, color=colour, alpha=0.25, linewidth=0)
        if curve is not None:
            ax.plot(sign * curve / unit, grid, color=colour, linewidth=1.3)
        dots = values if len(values) <= MOST_DOTS else rng.choice(values, MOST_DOTS, replace=False)
        ax.scatter(sign * rng.uniform(0.02, 0.1, len(dots)), dots, s=3, color=colour, alpha=0.5, linewidths=0)
        zeros = 1 - len(values) / max(len(halves[side]), 1)
        ax.annotate(
            f"{zeros:.0%} zeros",
            (0.25 + 0.5 * side, 0.0),
            (0, 3),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="center",
            color=FAINT,
            fontsize=7,
        )
    ax.axvline(0, color=INK, linewidth=0.6)
    ax.set_ylim(grid[0] - 0.12 * (grid[-1] - grid[0]), grid[-1])


def _smoothed(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Kernel density, with a bandwidth that leaves components apart."""
    if len(values) < 2 or np.ptp(values) == 0:
        return np.zeros(len(grid))
    width = max(BANDWIDTH * 2 * values.std() * len(values) ** -0.2, 1e-9)
    z = (grid[:, None] - values) / width
    return np.exp(-0.5 * z * z).sum(axis=1) / (len(values) * width * np.sqrt(2 * np.pi))


def _label(ax: Axes, gene: str, row: pd.Series, levels: tuple[str, ...], title: str | None) -> None:
    kind: Any = row.get("category")
    text = f"{gene}: {kind}, padj {row['padj']:.2g}" if kind is not None else f"{gene}: padj {row['padj']:.2g}"
    tidy(ax, "", "value", text if title is None else title)
    ax.title.set_fontsize(9)
    ax.set_xlim(-0.5, 0.5)
    ax.set_xticks([-0.25, 0.25], list(levels), fontsize=8)
    ax.tick_params(axis="x", length=0)
