"""The three methods of ``annotate``: their arguments, operators and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd

from dbx.data.blocks import RowBlocks
from dbx.ops.annotation.cellassign import CellAssign
from dbx.ops.annotation.celltypist import CellTypist
from dbx.ops.annotation.scanvi import ScANVI
from dbx.ops.checks import check_at_least, check_known
from dbx.ops.genes.pearson_residuals import residual_variances
from dbx.ops.operator import Operator
from dbx.program import Slot, exists, gene_names, graph_slot, log, matrix_slot, read
from dbx.tl._markers import marker_columns

VARIABLE_GENES = 2_000
"""Usual for such models; training time and memory grow with the number of genes."""


class Cells(NamedTuple):
    """Location of the counts."""

    data: Any
    layer: str | None
    mod: str | None

    @property
    def slot(self) -> Slot:
        """The slot of the counts, as text."""
        return Slot.parse(matrix_slot(self.layer), self.mod)


class Prepared(NamedTuple):
    """An operator, the slots of its inputs, and the mask of the genes it is restricted to."""

    operator: Operator
    reads: dict[str, str]
    genes: np.ndarray | None = None


def own_arguments(method: str, arguments: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The arguments of the chosen method that were passed.

    Raises
    ------
    ValueError
        The method is unknown, an argument of another was passed, or a required one is missing.
    """
    check_known(method, tuple(arguments), "method")
    own = arguments[method]
    foreign = {name: value for named in arguments.values() for name, value in named.items() if name not in own}
    wrong = [name for name, value in foreign.items() if value is not None]
    if wrong:
        methods = {name: [of for of, named in arguments.items() if name in named] for name in wrong}
        of = ", ".join(f"{name} (of {' and '.join(methods[name])})" for name in wrong)
        msg = f"method={method!r} does not use {of}: leave it out, or choose another method."
        raise ValueError(msg)
    needed = "markers" if "markers" in own else "labels_key"
    if own[needed] is None:
        what = "marker genes of each cell type" if needed == "markers" else "the column of obs with the known labels"
        msg = f"method={method!r} needs {needed}: {what}."
        raise ValueError(msg)
    return {name: value for name, value in own.items() if value is not None}


def prepared(method: str, cells: Cells, given: dict[str, Any], unlabeled: Any, min_confidence: float) -> Prepared:
    """The step of a method; ``given`` are the arguments that were passed."""
    reads = {"x": matrix_slot(cells.layer)}
    if "labels_key" in given:
        reads["labels"] = f"obs/{given.pop('labels_key')}"
    if "batch_key" in given:
        reads["batch"] = f"obs/{given.pop('batch_key')}"
    settings = {**given, "min_confidence": min_confidence}
    if method == "cellassign":
        return _cellassign(cells, reads, settings)
    settings["unlabeled"] = None if pd.isna(unlabeled) else unlabeled  # as JSON has it
    return {"celltypist": _celltypist, "scanvi": _scanvi}[method](cells, reads, settings)


def _celltypist(cells: Cells, reads: dict[str, str], settings: dict[str, Any]) -> Prepared:
    voting = [settings.pop(name, None) for name in ("majority_voting", "over_clustering", "neighbors_key")]
    voters = _voters(cells, *voting)
    votes: dict[str, Literal["neighbors", "clusters"]] = {"graph": "neighbors", "clusters": "clusters"}
    vote = votes.get(next(iter(voters), ""))
    return Prepared(CellTypist(**settings, vote=vote), {**reads, **voters})


def _scanvi(cells: Cells, reads: dict[str, str], settings: dict[str, Any]) -> Prepared:
    n_genes = settings.pop("top_genes", VARIABLE_GENES)
    check_at_least(n_genes, 1, "top_genes")
    operator = ScANVI(**settings)
    return Prepared(operator, reads, _variable_genes(cells, reads.get("batch"), n_genes))


def _cellassign(cells: Cells, reads: dict[str, str], settings: dict[str, Any]) -> Prepared:
    classes, markers = marker_columns(settings.pop("markers"), gene_names(cells.data, cells.slot))
    return Prepared(CellAssign(**settings, classes=classes, markers=markers), reads)


def _variable_genes(cells: Cells, batch: str | None, n_genes: int) -> np.ndarray | None:
    """Mask of the genes whose counts vary most, within batches if there are any; None if there are no more genes.

    The step itself checks that the values are counts.
    """
    counts = RowBlocks(read(cells.data, cells.slot))
    if counts.n_columns <= n_genes:
        return None
    codes = np.zeros(counts.n_rows, np.int32)
    if batch is not None:
        codes = pd.factorize(read(cells.data, Slot.parse(batch, cells.mod)), use_na_sentinel=False)[0]
    with np.errstate(invalid="ignore"):
        variances = residual_variances(counts, codes, codes.max() + 1)
    mask = np.zeros(counts.n_columns, bool)
    mask[np.argsort(-variances, kind="stable")[:n_genes]] = True
    log.info(f"scanvi trains on the {n_genes:,} most variable of {len(mask):,} genes; top_genes={len(mask)} takes all.")
    return mask


def _voters(
    cells: Cells, majority_voting: bool | None, over_clustering: str | None, neighbors_key: str | None
) -> dict[str, str]:
    """The input of the vote: the named clusters, otherwise neighbours; empty without majority voting."""
    if over_clustering is not None and neighbors_key is not None:
        msg = "Pass `over_clustering` or `neighbors_key`, not both."
        raise ValueError(msg)
    if majority_voting is False:
        if over_clustering is not None or neighbors_key is not None:
            msg = "over_clustering and neighbors_key need majority voting; remove them or majority_voting=False."
            raise ValueError(msg)
        return {}
    if over_clustering is not None:
        return {"clusters": f"obs/{over_clustering}"}
    named = neighbors_key is not None or majority_voting
    if not named and not exists(cells.data, Slot.parse("uns/neighbors", cells.mod)):
        log.info("There are no neighbours for a vote (run dbx.pp.neighbors first): each cell is annotated alone.")
        return {}
    return {"graph": graph_slot(cells.data, neighbors_key, mod=cells.mod)}
