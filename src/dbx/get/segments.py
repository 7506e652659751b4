"""Runs of equal state of a hidden Markov model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.get.gene_states import gene_states, has_gene_states, runs
from dbx.program.record.registry import load
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData

    from dbx.program.record.step import Step


def segments(adata: AnnData, key: str = "hmm", *, chromosome_key: str = "chromosome") -> pd.DataFrame:
    """Runs of equal state along each sequence, from :func:`dbx.tl.hmm` or :func:`dbx.tl.copy_number`.

    Parameters
    ----------
    adata
        Data with states; for a MuData pass the modality, ``mdata["rna"]``.
    key
        The ``key_added`` of the call; ``"copy_number"`` for the states of :func:`dbx.tl.copy_number`.
    chromosome_key
        Column of ``var`` with chromosomes, which are the sequences with ``axis="var"``.

    Returns
    -------
    Table with one row for each run, in the order of sequences, with ``axis="var"`` of those of one row after another:

    ``row`` (``axis="var"``)
        Name of the row.
    ``sequence``
        Name of the sequence; missing where all rows are one.
    ``start``, ``end``
        Positions of its first and last row: those of ``position_key``, or numbers from 0 within the sequence. With
        ``axis="var"`` those of its first and last gene, in ``var["start"]``, or else their numbers.
    ``length``
        Number of rows, or of genes.
    ``state``
        The state, categorical.
    ``posterior``
        Mean posterior of the state, NaN where posteriors were not written.
    ``mean``
        Mean of the data, over all features; NaN for codes. For copy numbers of the smoothed differences.

    Raises
    ------
    SlotError
        There are no states.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import dbx
    >>> bins = ad.AnnData(np.repeat([0.0, 3.0], 20)[:, None] + np.linspace(-1, 1, 40)[:, None])
    >>> dbx.tl.hmm(bins, 2)
    >>> dbx.get.segments(bins)[["start", "end", "length", "state"]]
       start  end  length state
    0      0   19      20     0
    1     20   39      20     1
    """
    if has_gene_states(adata, key):
        return runs(gene_states(adata, key, chromosome_key), adata.obs_names.to_numpy())
    found = along(adata, key)
    begins, codes = found.begins, found.states.codes
    ends = np.append(begins[1:], len(codes)) - 1
    data = np.full(len(codes), np.nan) if found.data is None else _mean_of_features(found.data)
    return pd.DataFrame(
        {
            "sequence": np.full(len(begins), np.nan) if found.names is None else found.names[begins],
            "start": found.at[begins],
            "end": found.at[ends],
            "length": ends - begins + 1,
            "state": pd.Categorical.from_codes(codes[begins], found.states.categories),
            "posterior": _means(found.posterior, begins),
            "mean": _means(data, begins),
        }
    )


@dataclass(frozen=True)
class Along:
    """Rows in the order of their sequences."""

    states: pd.Categorical
    names: np.ndarray | None
    """Name of the sequence of each row; None where all are one."""
    at: np.ndarray
    """Position of each row."""
    firsts: np.ndarray
    """Number of the first row of each sequence."""
    begins: np.ndarray
    """Number of the first row of each run of equal state."""
    posterior: np.ndarray
    """Posterior of the state of each row, NaN where it was not written."""
    data: np.ndarray | None
    """Array of shape (n_rows, n_features); None for codes, or if the step was not recorded."""


def along(adata: AnnData, key: str) -> Along:
    """States and data of :func:`dbx.tl.hmm` in the order of sequences."""
    slot = Slot("obs", (f"{key}_state",))
    states = read(adata, slot)
    step = load(adata).writer(slot)
    sequence, place = (_column(adata, step, name) for name in ("sequences", "positions"))
    n = adata.n_obs
    numbers = np.zeros(n, int) if sequence is None else sequence.astype("category").cat.codes.to_numpy()
    order = np.lexsort((np.arange(n) if place is None else place.to_numpy(), numbers))
    codes, numbers = states.cat.codes.to_numpy()[order], numbers[order]
    is_first = np.append(True, numbers[1:] != numbers[:-1])
    firsts = np.flatnonzero(is_first)
    begins = np.flatnonzero(is_first | np.append(True, codes[1:] != codes[:-1]))
    within = np.arange(n) - firsts[np.cumsum(is_first) - 1]
    data = _data(adata, step)
    return Along(
        pd.Categorical.from_codes(codes, states.cat.categories),
        None if sequence is None else sequence.astype(object).to_numpy()[order],
        within if place is None else place.to_numpy()[order],
        firsts,
        begins,
        _posterior(adata, key, states)[order],
        None if data is None else data[order],
    )


def _column(adata: AnnData, step: Step | None, name: str) -> pd.Series | None:
    """A column that the step read."""
    if step is None or name not in step.reads:
        return None
    return read(adata, step.reads[name].slots[0])


def _posterior(adata: AnnData, key: str, states: pd.Series) -> np.ndarray:
    if f"X_{key}" not in adata.obsm:
        return np.full(adata.n_obs, np.nan)
    return np.asarray(adata.obsm[f"X_{key}"])[np.arange(adata.n_obs), states.cat.codes]


def _data(adata: AnnData, step: Step | None) -> np.ndarray | None:
    entry = None if step is None else step.reads.get("x", step.reads.get("z"))
    if entry is None or step is None or step.config["emission"] == "categorical":
        return None
    values: Any = read(adata, entry.slots[0])
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values, np.float64)


def _mean_of_features(values: np.ndarray) -> np.ndarray:
    """Mean of each row over what is not missing."""
    seen = ~np.isnan(values)
    return np.where(seen, values, 0).sum(axis=1) / np.where(seen.any(axis=1), seen.sum(axis=1), np.nan)


def _means(values: np.ndarray, begins: np.ndarray) -> np.ndarray:
    """Mean of each run, of what is not missing."""
    seen = ~np.isnan(values)
    total = np.add.reduceat(np.where(seen, values, 0), begins)
    number = np.add.reduceat(seen.astype(int), begins)
    return total / np.where(number > 0, number, np.nan)
