"""Weights of cells by their quality metrics."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.ops.checks import as_names, check_known, did_you_mean
from dbx.ops.quality.qc_metrics import QCMetrics
from dbx.ops.quality.qc_weights import QCWeights
from dbx.program import Slot, check_key, holder, looks_like_counts, read, run_step
from dbx.program.compat import own_copy
from dbx.program.log import info

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

COMPUTED = {"total": "total_counts", "n_genes": "n_genes_by_counts", "pct/mt": "pct_counts_mt"}
"""Output of the quality metrics -> scanpy's column, which is computed if it is not there."""
MITOCHONDRIAL = ("mt-", "MT-")
DIRECTIONS = {"lower": "low", "upper": "high", "higher": "high"}
"""Other names of directions."""


def qc_weights(
    adata: AnnData | MuData,
    *,
    metrics: Collection[str] | str | None = None,
    nmads: float = 3.0,
    softness: float = 0.25,
    batch_key: str | None = None,
    log1p: bool | Collection[str] = True,
    directions: Mapping[str, str] | str | None = None,
    key_added: str = "qc_weight",
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Weigh cells by quality instead of removing them.

    The weight is the product over metrics of sigmoid((nmads - abs(z)) / softness), where z is the distance from the
    median in units of 1.4826 median absolute deviations (MAD), within a batch. As ``softness`` goes to 0 it becomes the
    filter at ``nmads`` MADs, which is written beside it. The thresholds are kept for
    new cells, and are parameters that :func:`dbx.optimize` and gradients can move. New cells of a batch that the
    reference does not have are judged by the thresholds of all reference cells together.

    Parameters
    ----------
    adata
        Annotated data.
    metrics
        Columns of ``adata.obs`` with numbers. None takes total counts, detected genes and the percentage of
        mitochondrial counts (genes ``mt-...`` and ``MT-...``), computed from counts in X if ``adata.obs`` does not have
        them: ``"total_counts"``, ``"n_genes_by_counts"``, ``"pct_counts_mt"``.
    nmads
        Distance from the median, in 1.4826 MADs, at which a cell has half a weight.
    softness
        Width of the transition from weight 1 to 0, in the same units.
    batch_key
        Column of ``adata.obs`` with batches: medians and MADs are those of each batch.
    log1p
        Take log(1 + metric) first: of all metrics, of none, or of those named.
    directions
        Metric -> ``"both"`` (the default), ``"low"`` (only low values are outliers) or ``"high"``; a text is for all.
    key_added
        Column of ``adata.obs`` for the weights.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Sets:

    ``adata.obs[key_added]``
        Weights from 0 to 1; 0 where a metric is missing.
    ``adata.obs['qc_pass']``
        Whether no metric is farther than ``nmads`` from the median.
    ``adata.uns[key_added]['thresholds']``
        Median, MAD (of logarithms, where those are taken) and thresholds of each metric in each batch, and of all cells
        together.

    Raises
    ------
    KeyError
        ``adata.obs`` has no such column.
    ValueError
        The MAD of a metric is 0 in a batch; a metric is not numeric; there is no such direction; ``nmads`` or
        ``softness`` is not above 0; X does not hold counts where metrics are computed.
    """
    check_key(key_added)
    check_key(batch_key, "batch_key")
    if batch_key is not None:
        read(adata, Slot("obs", (batch_key,), mod))  # before columns are added, which its message would list
    data = own_copy(adata, copy=copy)
    with computed_metrics(data, mod, wanted=metrics is None) as found:
        names = tuple(found if metrics is None else dict.fromkeys(as_names(metrics, "metrics")))
        if not names:
            msg = "metrics must name at least one column of adata.obs; got none."
            raise ValueError(msg)
        logs = logarithmised(log1p, names)
        for name in names:
            check_numeric(read(data, Slot("obs", (name,), mod)), name, log1p=name in logs)
        operator = QCWeights(
            names=names,
            nmads=nmads,
            softness=softness,
            log1p=logs,
            directions=checked_directions(directions, names),
        )
        reads: dict[str, str | list[str]] = {"metrics": [f"obs/{name}" for name in names]}
        if batch_key is not None:
            reads["batch"] = f"obs/{batch_key}"
        writes = {"weight": f"obs/{key_added}", "passed": "obs/qc_pass", "thresholds": f"uns/{key_added}/thresholds"}
        run_step(data, operator, reads=reads, writes=writes, mod=mod)
    return data if copy else None


@contextmanager
def computed_metrics(data: AnnData | MuData, mod: str | None, *, wanted: bool) -> Iterator[list[str]]:
    """Names of the default metrics, those that are not there computed; taken back if what follows fails."""
    owner = holder(data, Slot("X", mod=mod))
    names = owner.var_names.astype(str)
    flags = np.array([name.startswith(MITOCHONDRIAL) for name in names], bool)
    columns = {
        output: column
        for output, column in COMPUTED.items()
        if output != "pct/mt" or flags.any() or column in owner.obs
    }
    missing = {output: column for output, column in columns.items() if column not in owner.obs} if wanted else {}
    if wanted and "pct/mt" not in columns:
        info("No gene is called mt-... or MT-...: the percentage of mitochondrial counts is left out.")
    before = {id(part): (part, part.uns.get("dbx")) for part in (data, owner)}
    if missing:
        if not looks_like_counts(owner.X):
            msg = (
                f"qc_weights computes {', '.join(missing.values())} from counts, but X does not hold counts: name "
                "columns of adata.obs (metrics=[...]), or run dbx.pp.calculate_qc_metrics on the counts first."
            )
            raise ValueError(msg)
        sets: dict[str, Any] = {"qc_vars": ("mt",), "members": (tuple(np.flatnonzero(flags).tolist()),)}
        settings = {**(sets if "pct/mt" in missing else {}), "log1p": False}
        operator = QCMetrics.declared(settings)(**settings)
        writes = {output: f"obs/{column}" for output, column in missing.items()}
        run_step(data, operator, reads={"x": "X"}, writes=writes, name="calculate_qc_metrics", mod=mod)
    try:
        yield list(columns.values())
    except BaseException:
        for column in missing.values():
            del owner.obs[column]
        for part, program in before.values():
            if missing and program is None:
                del part.uns["dbx"]
            elif missing:
                part.uns["dbx"] = program
        raise


def check_numeric(column: pd.Series, name: str, *, log1p: bool) -> None:
    """Refuse a metric that is not a number, or has no log1p."""
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        msg = f"A metric must be a number; adata.obs[{name!r}] is {column.dtype}."
        raise ValueError(msg)
    if log1p and (column.dropna() <= -1).any():
        msg = (
            f"adata.obs[{name!r}] has values of -1 or less (smallest {column.min():g}), which have no log1p: pass "
            "log1p=False, or the names of the metrics to take it of."
        )
        raise ValueError(msg)


def logarithmised(log1p: bool | Collection[str], names: tuple[str, ...]) -> tuple[str, ...]:
    """The metrics of which logarithms are taken."""
    if isinstance(log1p, bool | np.bool_):
        return names if log1p else ()
    wanted = [log1p] if isinstance(log1p, str) else list(log1p)
    _check_metrics(wanted, names, "log1p")
    return tuple(name for name in names if name in wanted)


def checked_directions(
    directions: Mapping[str, str] | str | None, names: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Pairs of a metric and its direction, where that is not both."""
    if directions is None or isinstance(directions, str):
        directions = dict.fromkeys(names, directions or "both")
    _check_metrics(directions, names, "directions")
    named = {name: DIRECTIONS.get(direction, direction) for name, direction in directions.items()}
    for name, direction in named.items():
        check_known(direction, ("both", "low", "high"), f"directions[{name!r}]")
    return tuple((name, named[name]) for name in names if named.get(name, "both") != "both")


def _check_metrics(given: Collection[str], names: tuple[str, ...], argument: str) -> None:
    for name in given:
        if name not in names:
            msg = f"{argument} names {name!r}, which is none of the metrics {', '.join(map(repr, names))}."
            raise ValueError(msg + did_you_mean(name, names))
