"""Abundances of transcripts or genes with their inferential uncertainty, as a tidy table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.ops.checks import UnknownNameError, as_names, did_you_mean, listed
from dbx.program.slots.slots import SlotError

if TYPE_CHECKING:
    from anndata import AnnData

LAYERS = {"tpm": "tpm", "effective_length": "effective_length"}


def quantify(
    tx: AnnData,
    *,
    samples: str | Sequence[str] | None = None,
    names: str | Sequence[str] | None = None,
    gene: str | None = None,
    level: float = 0.95,
) -> pd.DataFrame:
    """Abundances as a tidy table, with intervals where there are repeats.

    Parameters
    ----------
    tx
        Samples x transcripts or genes of :func:`dbx.tl.quantify`, :func:`dbx.read_quant` or
        :func:`dbx.tl.summarize_to_gene`.
    samples
        Names of samples; all by default.
    names
        Names of transcripts or genes; all by default.
    gene
        Only the transcripts of this gene, ``var["gene"]``.
    level
        Probability that an interval should cover the expected count.

    Returns
    -------
    A frame with a row for each sample and transcript: ``sample``, ``name``, ``gene`` if it is known, ``count``,
    ``tpm``, ``effective_length``, and where ``tx`` has repeats ``sd``, their standard deviation, ``lower`` and
    ``upper``, the quantiles of the repeats, extended to the count where this is outside, or without
    ``uns["quantify"]["bootstrap"]`` the count minus and plus the normal quantile times ``sd``, not below 0; and
    ``inferential_relative_variance``. ``identifiability`` is the number of the set of transcripts that no class tells
    apart, -1 for others.

    Raises
    ------
    KeyError
        ``tx`` lacks abundances, or has no such sample, transcript or gene.
    ValueError
        ``level`` is not between 0 and 1.

    Examples
    --------
    >>> import dbx
    >>> import pandas as pd
    >>> classes = pd.DataFrame({"transcripts": ["a", "a,b", "b,c"], "count": [20, 30, 10]})
    >>> lengths = pd.DataFrame({"effective_length": [900.0, 400.0, 700.0]}, index=["a", "b", "c"])
    >>> tx = dbx.tl.quantify(classes, transcripts=lengths, n_bootstrap=20)
    >>> dbx.get.quantify(tx, names="a")[["sample", "name", "count"]].round(1)
      sample name  count
    0  count    a   50.0
    """
    if not isinstance(level, int | float) or not 0 < level < 1:
        msg = f"level must be between 0 and 1; got {level!r}."
        raise ValueError(msg)
    lacking = [layer for layer in LAYERS.values() if layer not in tx.layers]
    if lacking:
        msg = f"adata.layers lacks {listed(lacking)}: make it with dbx.tl.quantify(...) or dbx.read_quant(...)."
        raise SlotError(msg)
    rows, columns = _numbers(samples, tx.obs_names, "sample"), _of_gene(tx, gene, _numbers(names, tx.var_names, "name"))

    def values(matrix) -> np.ndarray:
        return np.asarray(matrix[np.ix_(rows, columns)], np.float64).ravel()

    def along(index: pd.Index | pd.Series) -> np.ndarray:
        return np.tile(np.asarray(index)[columns], len(rows))

    table = pd.DataFrame({"sample": np.repeat(tx.obs_names.to_numpy()[rows], len(columns))})
    table["name"] = along(tx.var_names)
    if "gene" in tx.var:
        table["gene"] = along(tx.var["gene"])
    table["count"] = values(tx.X)
    for column, layer in LAYERS.items():
        table[column] = values(tx.layers[layer])
    if "variance" in tx.layers:
        table["sd"] = np.sqrt(values(tx.layers["variance"]))
        table["lower"], table["upper"] = _interval(tx, rows, columns, table, level)
        table["inferential_relative_variance"] = values(tx.layers["inferential_relative_variance"])
    if "identifiability" in tx.var:
        table["identifiability"] = along(tx.var["identifiability"])
    return table


def _interval(tx: AnnData, rows: np.ndarray, columns: np.ndarray, table: pd.DataFrame, level: float):
    """Lower and upper ends, by the repeats where there are those of these samples and transcripts."""
    from scipy.stats import norm

    count, draws = table["count"].to_numpy(), tx.uns.get("quantify", {}).get("bootstrap")
    if draws is None or (len(draws), np.shape(draws)[-1]) != tx.shape:
        half = norm.ppf((1 + level) / 2) * table["sd"].to_numpy()
        return np.maximum(count - half, 0), count + half
    some = np.asarray(draws)[rows][:, :, columns]
    ends = np.quantile(some, [(1 - level) / 2, (1 + level) / 2], axis=1).reshape(2, -1)
    return np.minimum(ends[0], count), np.maximum(ends[1], count)


def _numbers(wanted: str | Sequence[str] | None, names: pd.Index, what: str) -> np.ndarray:
    if wanted is None:
        return np.arange(len(names))
    asked = as_names(wanted, f"{what}s")
    at = names.get_indexer(asked)
    if (at < 0).any():
        unknown = [name for name, number in zip(asked, at, strict=True) if number < 0]
        msg = f"There is no {what} {listed(unknown)}; there are {listed(names)}.{did_you_mean(unknown[0], names)}"
        raise UnknownNameError(msg)
    return at


def _of_gene(tx: AnnData, gene: str | None, columns: np.ndarray) -> np.ndarray:
    if gene is None:
        return columns
    genes = tx.var["gene"].astype(str) if "gene" in tx.var else pd.Series(dtype=str)
    if gene not in set(genes):
        there = f"there are {listed(dict.fromkeys(genes))}" if len(genes) else "adata.var has no column 'gene'"
        msg = f"There is no gene {gene!r}; {there}."
        raise UnknownNameError(msg)
    return columns[(genes == gene).to_numpy()[columns]]
