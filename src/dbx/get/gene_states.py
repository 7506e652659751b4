"""States of hidden Markov models along the genes of each row, chromosome after chromosome."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.data.blocks import RowBlocks
from dbx.program.record.registry import load
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    from anndata import AnnData

    from dbx.program.record.step import Step

AT_ONCE = 1 << 22
"""Values that are in memory densely."""


@dataclass(frozen=True)
class GeneStates:
    """Genes in the order of chromosomes, and the states of all rows in them."""

    columns: np.ndarray
    """Number of each gene that has a state."""
    at: np.ndarray
    """Position of each."""
    numbers: np.ndarray
    """Number of the chromosome of each."""
    names: np.ndarray
    """Name of the chromosome of each."""
    states: np.ndarray
    """Array of shape (n_rows, n_columns), int."""
    levels: list[str]
    data: RowBlocks | None
    """What the model was fitted to, of all genes; None for codes."""
    posterior: np.ndarray | None
    """Posterior of these states, of the same shape; None where it was not written."""

    @property
    def is_first(self) -> np.ndarray:
        """Whether each gene is the first of its chromosome."""
        return np.append(True, self.numbers[1:] != self.numbers[:-1])


def has_gene_states(adata: AnnData, key: str) -> bool:
    """Whether the states are those of genes, ``axis="var"``."""
    return f"{key}_state" in adata.layers and f"{key}_state" not in adata.obs


def gene_states(adata: AnnData, key: str, chromosome_key: str) -> GeneStates:
    """States that :func:`dbx.tl.hmm` wrote with ``axis="var"``, or :func:`dbx.tl.copy_number`."""
    slot = Slot("layers", (f"{key}_state",))
    states, step = np.asarray(read(adata, slot)), load(adata).writer(slot)
    names = pd.Series(read(adata, Slot("var", (chromosome_key,)))).astype(str).to_numpy()
    places = adata.var["start"].to_numpy() if "start" in adata.var else np.arange(adata.n_vars)
    columns = np.flatnonzero((states >= 0).all(axis=0))
    numbers = pd.factorize(names[columns])[0]
    order = np.lexsort((places[columns], numbers))
    columns, numbers = columns[order], numbers[order]
    states = states[:, columns].astype(np.intp)
    config = {} if step is None else step.config
    n_states = config.get("n_states", int(states.max(initial=0)) + 1)
    levels = list(config.get("names") or map(str, range(n_states)))
    data = _data(adata, key, step)
    posterior = _posterior(adata, key, states, columns, levels)
    return GeneStates(columns, places[columns], numbers, names[columns], states, levels, data, posterior)


def _posterior(adata: AnnData, key: str, states: np.ndarray, columns: np.ndarray, levels: list[str]):
    layers = [f"{key}_posterior_{level}" for level in levels]
    if not all(layer in adata.layers for layer in layers):
        return None
    found = np.empty(states.shape)
    for state, layer in enumerate(layers):
        found[states == state] = np.asarray(adata.layers[layer])[:, columns][states == state]
    return found


def _data(adata: AnnData, key: str, step: Step | None) -> RowBlocks | None:
    """The smoothed differences of :func:`dbx.tl.copy_number`, or what the step read."""
    if key in adata.layers:
        return RowBlocks(adata.layers[key])
    if step is None or step.config.get("emission") == "categorical" or "x" not in step.reads:
        return None
    return RowBlocks(read(adata, step.reads["x"].slots[0]))


def runs(found: GeneStates, rows: np.ndarray) -> pd.DataFrame:
    """Runs of equal state of each row, one after another; ``rows`` are their names."""
    parts = [_runs(found, block, rows) for block in _blocks(*found.states.shape)]
    return pd.concat(parts, ignore_index=True)


def _blocks(n_rows: int, n_columns: int) -> Iterator[slice]:
    size = max(AT_ONCE // max(n_columns, 1), 1)
    return (slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size))


def _runs(found: GeneStates, block: slice, names: np.ndarray) -> pd.DataFrame:
    states = found.states[block]
    changes = np.column_stack([np.ones(len(states), bool), states[:, 1:] != states[:, :-1]])
    begins = np.flatnonzero(changes | found.is_first)
    lengths = np.diff(np.append(begins, states.size))
    row, column = np.divmod(begins, states.shape[1])
    return pd.DataFrame(
        {
            "row": names[block][row],
            "sequence": found.names[column],
            "start": found.at[column],
            "end": found.at[column + lengths - 1],
            "length": lengths,
            "state": pd.Categorical.from_codes(states.ravel()[begins], found.levels),
            "posterior": np.nan
            if found.posterior is None
            else _mean_posterior(found.posterior[block], begins, lengths),
            "mean": _means(found, block, begins),
        }
    )


def _mean_posterior(posterior: np.ndarray, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    return np.add.reduceat(posterior.ravel(), begins) / lengths


def _means(found: GeneStates, block: slice, begins: np.ndarray) -> np.ndarray:
    """Mean of the data of each run, of what is not missing."""
    if found.data is None:
        return np.full(len(begins), np.nan)
    rows = found.data.rows(block)
    values = np.asarray(rows.toarray() if hasattr(rows, "toarray") else rows, np.float64)[:, found.columns].ravel()
    seen = ~np.isnan(values)
    total, number = (np.add.reduceat(part, begins) for part in (np.where(seen, values, 0), seen.astype(float)))
    return total / np.where(number > 0, number, np.nan)
