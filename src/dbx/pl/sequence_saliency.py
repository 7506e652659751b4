"""Bases of sequences by how much they speak for a class, as a logo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.font_manager import FontProperties
from matplotlib.patches import PathPatch
from matplotlib.textpath import TextPath
from matplotlib.transforms import Affine2D

from dbx.get.sequence_networks import trained
from dbx.ops.checks import UnknownNameError, listed
from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import FAINT, tidy

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"A": "#009e73", "C": "#0072b2", "G": "#e69f00", "T": "#d55e00", "U": "#d55e00"}
"""Nearly the usual ones, of a palette that can be told apart without seeing red and green."""
FONT = FontProperties(family="DejaVu Sans", weight="bold")
LEAST = 0.01
"""Height of a letter, relative to the highest, from which it is drawn."""


@doc_params(figure=FIGURE)
def sequence_saliency(
    adata: AnnData,
    sequences: str | Sequence[str] | None = None,
    *,
    target: str | int | None = None,
    key: str = "X_sequence",
    start: int = 0,
    end: int | None = None,
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw how much each base of sequences speaks for or against a class: gradient times input, as a logo.

    The height of a letter is the mean, over the sequences drawn, of the change of the class' logit by this base there,
    relative to the mean of all four bases (Majdandzic et al., Genome Biology, 2023). For several sequences positions
    must mean the same, as in windows around splice sites: letters of each position are stacked.

    Parameters
    ----------
    adata
        Data with the sequences and the network of :func:`dbx.tl.sequence_embedding`.
    sequences
        Names of rows to draw; by default all whose predicted class is ``target``.
    target
        A class or, without classes, a column of the embedding. By default the class predicted for the first sequence,
        or column 0.
    key
        The ``key_added`` of the call.
    start
        First position to draw, counted from 0.
    end
        First position not to draw; all by default.
    title
        Title; by default the class and the number of sequences.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        There is no such embedding, row or class.
    ValueError
        No sequence is predicted to be of the class.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import dbx
    >>> bases = np.array(list("ACGT"))[np.random.default_rng(0).integers(0, 4, (200, 20))]
    >>> bases[:100, 10:12] = ["G", "T"]
    >>> sites = ad.AnnData(obs=dict(sequence=["".join(row) for row in bases], site=["yes"] * 100 + ["no"] * 100))
    >>> dbx.tl.sequence_embedding(sites, labels_key="site", max_epochs=2)
    >>> ax = dbx.pl.sequence_saliency(sites, target="yes", show=False)
    """
    from dbx.ops.sequence.saliency import saliency

    operator, values = trained(adata, key)
    rows = None if sequences is None else _rows(adata, sequences)
    labels = adata.obs.get(f"{key.removeprefix('X_')}_label")
    if operator.classes and target is None:
        assert labels is not None or rows is None
        target = str(labels.iloc[0 if rows is None else rows[0]]) if labels is not None else operator.classes[0]
    number = _number(operator.classes, target)
    if rows is None:
        rows = np.arange(len(values))
        if operator.classes and labels is not None:
            rows = np.flatnonzero(labels.astype(str) == str(target))
        if not len(rows):
            msg = f"No sequence is predicted to be {target!r}: name some, sequences=[...]."
            raise ValueError(msg)
    heights = saliency(operator, values[rows], number).mean(axis=0)[start:end]
    ax = axes(ax, (max(4.0, 0.16 * len(heights) + 1), 2.4))
    _draw(ax, heights, start, "ACGT" if operator.alphabet == "DNA" else "ACGU")
    what = f"{target}, {len(rows)} sequences" if len(rows) > 1 else f"{target}, {adata.obs_names[rows[0]]}"
    tidy(ax, "position", "contribution to the logit" if operator.classes else "contribution", title or what)
    return finish(ax, "sequence_saliency", show=show, save=save, return_fig=return_fig)


def _rows(adata: AnnData, sequences: str | Sequence[str]) -> np.ndarray:
    names = [sequences] if isinstance(sequences, str) else list(sequences)
    rows = adata.obs_names.get_indexer(names)
    if (rows < 0).any():
        msg = f"There is no sequence {listed(np.array(names)[rows < 0])}."
        raise UnknownNameError(msg)
    return rows


def _number(classes: tuple[str, ...], target: str | int | None) -> int:
    if not classes:
        return int(target or 0)
    if str(target) not in classes:
        msg = f"There is no class {target!r}; there are {listed(classes)}."
        raise UnknownNameError(msg)
    return classes.index(str(target))


def _draw(ax: Axes, heights: np.ndarray, start: int, letters: str) -> None:
    """Letters above zero from the smallest up, those below zero from the smallest down."""
    least = LEAST * np.abs(heights).max()
    for place, column in enumerate(heights, start):
        for sign in (1, -1):
            bottom = 0.0
            for i in np.argsort(sign * column):
                if sign * column[i] > least:
                    _letter(ax, letters[i], place, bottom, column[i])
                    bottom += column[i]
    highest = np.clip(heights, 0, None).sum(axis=1).max()
    lowest = np.clip(heights, None, 0).sum(axis=1).min()
    margin = 0.05 * max(highest - lowest, 1e-12)
    ax.set_ylim(lowest - margin, highest + margin)
    ax.set_xlim(start - 0.6, start + len(heights) - 0.4)
    ax.axhline(0, color=FAINT, linewidth=0.6, zorder=1)


def _letter(ax: Axes, letter: str, place: int, bottom: float, height: float) -> None:
    """A letter as wide as its position; one of negative height stands on its head."""
    path = TextPath((0, 0), letter, size=1, prop=FONT)
    box = path.get_extents()
    transform = (
        Affine2D()
        .translate(-box.x0, -box.y0)
        .scale(0.9 / box.width, height / box.height)
        .translate(place - 0.45, bottom)
    )
    ax.add_patch(PathPatch(path, transform=transform + ax.transData, facecolor=COLOURS[letter], linewidth=0))
