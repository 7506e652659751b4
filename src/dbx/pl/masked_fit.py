"""Observed against predicted counts of hidden genes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from dbx.pl._doc_params import FIGURE, doc_params
from dbx.pl._figure import axes, finish
from dbx.pl._palette import DOWN, FAINT, LINE, NOTE, UP, tidy
from dbx.program import matrix_slot
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_POINTS, N_BINS, LEAST = 20_000, 20, 1e-4
LINEAR_TO = 0.1
"""Counts below which the axes are linear, so that 0 has a place."""


@doc_params(figure=FIGURE)
def masked_fit(
    adata: AnnData,
    *,
    mask: str | None = None,
    layer: str | None = None,
    key: str = "foundation_expected",
    title: str | None = None,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | Figure | None:
    """Draw observed counts against those that :func:`dbx.tl.foundation_model` predicts from the other genes.

    Points are entries, a random part of them if there are many. Circles are the means of twenty groups of entries of
    similar prediction, with two standard errors: on the diagonal the predictions are right on average, and the further
    the circles spread along it, the more the other genes say.

    Parameters
    ----------
    adata
        Data with expected counts, ``dbx.tl.foundation_model(adata, expected=True)``.
    mask
        Layer of 1 for hidden entries, which alone are drawn; by default all entries, as each is predicted from others.
    layer
        Layer with the true counts instead of ``X``.
    key
        Layer with the expected counts.
    title
        Title; by default the gain over means of genes, in nats for an entry of Poisson likelihood.
    {figure}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False``, otherwise None.

    Raises
    ------
    KeyError
        A layer is missing.
    ValueError
        Nothing is hidden by ``mask``.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 200, 2, 1, seed=0)
    >>> dbx.tl.foundation_model(adata, n_layers=1, n_hidden=16, n_induced=4, max_epochs=2, expected=True)
    >>> ax = dbx.pl.masked_fit(adata, show=False)
    """
    expected = np.asarray(read(adata, Slot("layers", (key,))), np.float64)
    observed = _dense(read(adata, Slot.parse(matrix_slot(layer))))
    hidden = np.ones(observed.shape, bool) if mask is None else _dense(read(adata, Slot("layers", (mask,)))) > 0
    if not hidden.any():
        msg = f"adata.layers[{mask!r}] hides no entry: leave mask out to draw all."
        raise ValueError(msg)
    x, y = np.maximum(expected[hidden], LEAST), observed[hidden]
    ax = axes(ax, (4.6, 4.2))
    some = np.random.default_rng(0).permutation(len(x))[:MOST_POINTS]
    jitter = np.random.default_rng(1).uniform(-0.25, 0.25, len(some))
    ax.scatter(x[some], np.maximum(y[some] + jitter, 0), s=2, color=FAINT, alpha=0.15, linewidth=0, rasterized=True)
    centre, mean, error = _groups(x, y)
    ax.errorbar(
        centre, mean, 2 * error, fmt="o", color=DOWN, markersize=4, linewidth=1, zorder=3, label="mean of group"
    )
    equal = np.append(0, np.geomspace(LINEAR_TO / 10, max(x.max(), y.max()), 100))
    ax.plot(equal, equal, **{**LINE, "color": UP, "zorder": 2})
    ax.set_xscale("symlog", linthresh=LINEAR_TO, linscale=0.5)
    ax.set_yscale("symlog", linthresh=LINEAR_TO, linscale=0.5)
    ax.set_xlim(0, equal[-1] * 1.2)
    ax.set_ylim(0, equal[-1] * 1.2)
    gain = _gain(observed, expected, hidden)
    tidy(
        ax,
        "predicted count",
        "observed count",
        f"{gain:.3f} nats per entry over gene means" if title is None else title,
    )
    ax.text(0.02, 0.98, f"{len(x):,} entries", transform=ax.transAxes, va="top", **NOTE)
    return finish(ax, "masked_fit", show=show, save=save, return_fig=return_fig)


def _dense(x) -> np.ndarray:
    return np.asarray(x.toarray() if sparse.issparse(x) else x, np.float64)


def _groups(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean prediction, mean count and its standard error, of groups of entries by their prediction."""
    parts = [part for part in np.array_split(np.argsort(x, kind="stable"), N_BINS) if len(part)]
    error = [y[part].std() / np.sqrt(len(part)) for part in parts]
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts]), np.array(error)


def _gain(observed: np.ndarray, expected: np.ndarray, hidden: np.ndarray) -> float:
    """Mean gain of Poisson log-likelihood over each gene's share of what is not hidden, in these cells."""
    shown = np.ones_like(hidden) if hidden.all() else ~hidden
    share = (observed * shown).sum(axis=0) + 0.5
    share = share / share.sum()
    depth = (observed * shown).sum(axis=1) / np.maximum((shown * share).sum(axis=1), 0.1)

    def loss(mean: np.ndarray) -> float:
        mean = np.maximum(mean, LEAST)
        return float((mean - observed * np.log(mean))[hidden].mean())

    return loss(depth[:, None] * share) - loss(expected)
