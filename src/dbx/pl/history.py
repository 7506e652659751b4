"""Training histories of recorded steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dbx.ops.catalogue import CATALOGUE
from dbx.ops.checks import listed
from dbx.pl._curves import EPOCH, HELD_OUT, curves_of
from dbx.pl._doc_params import SHOW, doc_params
from dbx.pl._figure import finish, panels
from dbx.pl._palette import DOWN, LINE, NOTE, UP, tidy
from dbx.program.record.registry import Registry, load
from dbx.program.record.step import Step
from dbx.program.slots.slots import read
from dbx.program.training.results import summary_slot

if TYPE_CHECKING:
    from anndata import AnnData
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from mudata import MuData

KEPT = "kept"
"""Beside the curves, where a step records it: the epoch whose parameters were kept."""
LABELS = {"elbo": "ELBO", "kl": "KL divergence", "mmd": "maximum mean discrepancy", "vae_loss": "autoencoder loss"}
LABELS |= {"cross_entropy": "cross-entropy", "cross_entropy_errors": "misclassification rate"}
UNITLESS = ("mmd", "distance", "critic_loss", "squared_error", "accuracy")
"""What terms end in that are no likelihoods."""
NATS = " (nats per cell)"
UNITS = {"spatial_domains_gat": ""} | dict.fromkeys(
    ("sequence_embedding", "sequence_transformer", "foundation_model"), " (nats)"
)
"""Operator -> unit of its likelihoods, where they are not of cells."""


class Stage(NamedTuple):
    """A stage of dbx.optimize: the steps it trained, its last epoch, and whether the training was kept."""

    steps: str
    end: int
    kept: bool

    @property
    def label(self) -> str:
        """The steps, and what became of them."""
        return f"{self.steps}, {'kept' if self.kept else 'reverted'}"


@doc_params(show=SHOW)
def history(
    adata: AnnData | MuData,
    step: str | None = None,
    *,
    keys: str | Sequence[str] | None = None,
    skip: int = 0,
    title: str | None = None,
    ncols: int = 4,
    ax: Axes | None = None,
    show: bool | None = None,
    save: bool | str | None = None,
    return_fig: bool | None = None,
) -> Axes | list[Axes] | Figure | None:
    """Draw the training history of a trained step: each term of its loss against the epochs.

    Terms are means over the cells in an epoch, in nats per cell where they are likelihoods or divergences, and in nats
    per hidden entry or per sequence for those of foundation models and of sequences, whose phases of training are terms
    of their own. Where cells
    were held out, their curve is drawn beside that of the training cells, and a line marks the epoch whose parameters
    were kept, the best on the held-out cells; there is none where every epoch was worse than the start. Without
    held-out cells the parameters of the last epoch are kept.

    Parameters
    ----------
    adata
        Annotated data with a program in ``uns["dbx"]``.
    step
        Name of the step, as in :func:`dbx.steps`; by default the trained step that ran last. ``"optimize"`` is the last
        run of :func:`dbx.optimize`, with its stages marked as kept or reverted.
    keys
        One term or several, such as ``"elbo"``; by default all recorded terms. Each is drawn on separate axes.
    skip
        Number of first epochs to leave out: their values can be so large that the rest of the curve looks flat.
    title
        Title of the figure; by default the name of the step.
    ncols
        Number of axes in a row.
    ax
        Axes to draw one term on; new ones by default.
    {show}

    Returns
    -------
    The figure with ``return_fig=True``, the axes with ``show=False`` (a list unless ``keys`` is one name), otherwise
    None.

    Raises
    ------
    ValueError
        No recorded step was trained; there is no such step or term; ``ax`` was passed with several terms; ``skip``
        leaves no epoch.
    """
    name, curves, stages, unit = _optimization(adata) if step == "optimize" else _of_step(load(adata), step)
    terms = _terms(curves, keys, name)
    _check_skip(skip, max(map(len, curves.values())))
    drawn = panels(ax, len(terms), ncols, (3.3, 2.9), "term")
    for place, term in zip(drawn, terms, strict=True):
        _draw(place, curves, term, skip, stages, unit)
    if title is None:
        title = name if len(stages) != 1 else f"{name}: {stages[0].label}"
    if len(drawn) == 1:
        drawn[0].set_title(title, fontsize=10, pad=6)
    else:
        drawn[0].figure.suptitle(title, fontsize=10)
    result = finish(drawn[0], "history", show=show, save=save, return_fig=return_fig)
    return drawn if result is drawn[0] and not isinstance(keys, str) else result


def _of_step(registry: Registry, name: str | None) -> tuple[str, dict[str, np.ndarray], list[Stage], str]:
    """(name of the step, term -> values in each epoch, no stages, unit of likelihoods)."""
    found = _trained_step(registry, name)
    operator: Any = found.build()
    return found.name, curves_of(operator.history), [], UNITS.get(found.operator, NATS)


def _optimization(adata) -> tuple[str, dict[str, np.ndarray], list[Stage], str]:
    """The same for the last run of dbx.optimize, with its stages."""
    summary = read(adata, summary_slot(adata))
    curves = {term: np.asarray(values) for term, values in summary["history"].items()}
    ends = np.cumsum(np.bincount(curves.pop("stage").astype(int), minlength=len(summary["trained"])))
    stages = zip(np.atleast_1d(summary["trained"]), ends, np.atleast_1d(summary["kept"]), strict=True)
    return "optimize", curves, [Stage(str(steps), int(end), bool(kept)) for steps, end, kept in stages], NATS


def _trained_step(registry: Registry, name: str | None) -> Step:
    """The step of this name, or the one trained last."""
    trained = [s for s in registry if s.operator in CATALOGUE and "history" in s.operator_class.outputs]
    if not trained:
        msg = (
            "No recorded step has a training history. Steps that have one: dbx.pp.vae_normalize, solo and denoise, "
            "dbx.tl.mmd, wgan, communication, sequence_embedding, foundation_model, spatial_domains with method='gat', "
            "umap with method='parametric', and annotate with method='scanvi' or 'cellassign'."
        )
        raise ValueError(msg)
    if name is None:
        return max(trained, key=lambda step: step.at)
    if name not in (step.name for step in trained):
        what = "was not trained" if name in (step.name for step in registry) else "is not recorded"
        msg = f"Step {name!r} {what}; pass one of {listed(step.name for step in trained)}."
        raise ValueError(msg)
    return registry[name]


def _terms(curves: Mapping[str, np.ndarray], keys: str | Sequence[str] | None, step: str) -> list[str]:
    beside = {KEPT, EPOCH, *(HELD_OUT + name for name in curves)}
    known = [name for name in curves if name not in beside]
    wanted = known if keys is None else [keys] if isinstance(keys, str) else list(keys)
    wrong = [name for name in wanted if name not in known]
    if wrong or not wanted:
        got = repr(wrong[0]) if wrong else "none"
        msg = f"keys must be terms of the history of step {step!r} ({', '.join(map(repr, known))}); got {got}."
        raise ValueError(msg)
    return wanted


def _check_skip(skip: int, n_epochs: int) -> None:
    if not 0 <= skip < n_epochs:
        msg = f"skip must be from 0 to {n_epochs - 1}, one less than the epochs; got {skip}."
        raise ValueError(msg)


def _draw(
    ax: Axes,
    curves: Mapping[str, np.ndarray],
    term: str,
    skip: int,
    stages: Sequence[Stage] = (),
    unit: str = NATS,
) -> None:
    held_out = curves.get(HELD_OUT + term)
    for values, colour, label in ((curves[term], DOWN, "training"), (held_out, UP, "held-out cells")):
        if values is not None:
            epochs = curves.get(EPOCH, np.arange(1, len(values) + 1))[skip:]
            look: dict[str, Any] = {"marker": "o", "markersize": 3} if len(epochs) <= 3 else {}
            ax.plot(epochs, values[skip:], color=colour, linewidth=1.3, label=label, zorder=2, **look)
    bare = stages and term != "cross_entropy"  # an objective may be a sum of different units
    tidy(ax, "epoch", LABELS.get(term, term.replace("_", " ")) + ("" if bare or term.endswith(UNITLESS) else unit), "")
    locator: Any = ax.xaxis.get_major_locator()
    locator.set_params(integer=True)
    if len(stages) > 1:
        _mark_stages(ax, stages, skip)
    elif (kept := _kept_epoch(curves)) is not None and kept > skip and all(stage.kept for stage in stages):
        ax.axvline(kept, **LINE, label=f"kept: epoch {kept}")
    if held_out is not None:
        ax.legend(frameon=False, fontsize=8)


def _mark_stages(ax: Axes, stages: Sequence[Stage], skip: int) -> None:
    """A line between stages, and above each its steps and whether they were kept."""
    begin = skip
    for stage in stages:
        if stage.end <= skip:
            continue
        if stage.end < stages[-1].end:
            ax.axvline(stage.end + 0.5, **LINE)
        place: dict[str, Any] = {"ha": "center", "va": "bottom", "transform": ax.get_xaxis_transform()}
        ax.text((begin + stage.end + 1) / 2, 1.0, stage.label.replace(", ", "\n"), **place, **NOTE)
        begin = stage.end


def _kept_epoch(curves: Mapping[str, np.ndarray]) -> int | None:
    """The epoch whose parameters were kept, from 1, or 0 for those before; None where none is known to be."""
    if EPOCH in curves:
        return None
    if KEPT in curves:
        return int(curves[KEPT][0])
    losses = {"loss": 1, "elbo": -1, "squared_error": 1}
    held_out = [sign * curves[HELD_OUT + name] for name, sign in losses.items() if HELD_OUT + name in curves]
    return int(np.argmin(held_out[0])) + 1 if held_out else None
