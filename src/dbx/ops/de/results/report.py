"""Fitted models as tables with DESeq2's names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dbx.ops.de.results.result_table import COLUMNS
from dbx.ops.values import Codes, Frame

Facts = Mapping[str, Any]


def result_columns(base_mean: np.ndarray, results: np.ndarray, *, shrunken: bool) -> dict[str, np.ndarray]:
    """Columns of DESeq2's results(): arrays of shape (n_genes,), with s-values where there are any."""
    columns = {"baseMean": base_mean, **dict(zip(COLUMNS, results.T, strict=True))}
    if not shrunken:
        del columns["svalue"]
    return columns


def coefficient_columns(names: Sequence[str], beta: np.ndarray, covariance: np.ndarray) -> dict[str, np.ndarray]:
    """Coefficients and their standard errors, log2."""
    errors = np.sqrt(np.einsum("gpp->gp", covariance)) / np.log(2)
    columns = {f"beta:{name}": beta[:, i] / np.log(2) for i, name in enumerate(names)}
    return columns | {f"SE:{name}": errors[:, i] for i, name in enumerate(names)}


def long_table(groups: Sequence[str], tables: Sequence[Mapping[str, np.ndarray]]) -> Frame:
    """Tables of several groups below each other, without the genes that a group has no counts of."""
    kept = [np.flatnonzero(table["baseMean"] > 0) for table in tables]
    code = np.repeat(np.arange(len(groups), dtype=np.int32), [len(rows) for rows in kept])
    stacked = {
        name: np.concatenate([table[name][rows] for table, rows in zip(tables, kept, strict=True)])
        for name in tables[0]
    }
    return Frame({"group": Codes(code, tuple(groups)), **stacked}, rows=None, gene=np.concatenate(kept))


def samples_table(facts: Sequence[Facts]) -> Frame:
    """Summed samples: how many cells, which size factor."""
    samples = [name for fact in facts for name in fact["samples"]]
    columns: dict[str, np.ndarray | Codes] = {
        "sample": _text(samples),
        "n_cells": np.concatenate([fact["n_cells"] for fact in facts]).astype(np.int64),
        "size_factor": np.concatenate([fact["size_factors"] for fact in facts]),
    }
    if facts[0]["group"] is not None:
        columns = {"group": _text([fact["group"] for fact in facts for _ in fact["samples"]]), **columns}
    return Frame(columns, rows=None)


def shared_facts(fact: Facts, filters: np.ndarray) -> dict[str, Any]:
    """What the genes of one model share, as plain values for ``uns``."""
    return {
        "trend": fact["trend"],
        "trend_coefficients": np.array(fact["trend_coefficients"]),
        **{name: fact[name] for name in NUMBERS},
        "filter_threshold": float(filters[0]),
        "filter_theta": float(filters[1]),
        "note": fact["note"],
    }


NUMBERS = ("n_samples", "prior_variance", "var_log_dispersions", "cooks_cutoff", "min_mu")


def facts_of_groups(facts: Sequence[Facts], filters: np.ndarray, skipped: Mapping[str, str]) -> Frame:
    """The same for a model of each group, a row each; for groups without a model the reason."""
    n_skipped = len(skipped)
    columns: dict[str, np.ndarray | Codes] = {
        "group": _text([*(fact["group"] for fact in facts), *skipped]),
        "trend": _text([*(fact["trend"] for fact in facts), *["none"] * n_skipped]),
    }
    for name in NUMBERS:
        columns[name] = np.array([*(fact[name] for fact in facts), *[np.nan] * n_skipped], np.float64)
    for i, name in enumerate(("filter_threshold", "filter_theta")):
        columns[name] = np.concatenate([filters[:, i], np.full(n_skipped, np.nan)])
    columns["note"] = _text([*(fact["note"] for fact in facts), *skipped.values()])
    return Frame(columns, rows=None)


def _text(values: Sequence[str]) -> Codes:
    levels, codes = np.unique(np.array(values, dtype=str), return_inverse=True)
    return Codes(codes.reshape(-1).astype(np.int32), tuple(map(str, levels)))
