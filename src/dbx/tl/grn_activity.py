"""Activity of the regulators of a network in cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from dbx.get.networks import network_of
from dbx.ops.checks import UnknownNameError, check_whole, listed
from dbx.ops.regulation.activity import GRNActivity
from dbx.program import Slot, check_key, gene_names, matrix_slot, read, run_step
from dbx.tl.score_genes import among

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

COLUMNS = ("TF", "target", "importance", "sign")


def grn_activity(
    adata: AnnData | MuData,
    *,
    key: str = "grn",
    group: str | None = None,
    method: Literal["mean", "rank"] = "mean",
    n_targets: int = 50,
    top: float = 0.05,
    layer: str | None = None,
    key_added: str | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Score each cell for the activity of each transcription factor of a network, by the expression of its targets.

    :func:`dbx.rerun` gives new cells the activities by the same targets and, for the mean, on the scale of the
    reference. :func:`dbx.optimize` and :func:`dbx.sensitivity` differentiate the mean.

    Parameters
    ----------
    adata
        Annotated data with log-normalised expression and a network of :func:`dbx.tl.grn`, or a table of one's own in
        ``uns[key]`` with the columns ``TF``, ``target``, ``importance`` and ``sign`` (1 or -1).
    key
        Key of the network in ``uns``.
    group
        Group of the network, if there is one for each group of cells.
    method
        ``"mean"``: mean of the targets, each scaled to mean 0 and variance 1, those repressed with a minus.
        ``"rank"``: AUCell's score (Aibar et al., Nature Methods, 2017), from 0 to 1: how many activated targets are
        among the most expressed genes of the cell, and how far up.
    n_targets
        Number of targets of each factor, the most important ones.
    top
        Fraction of all genes that are the most expressed ones, for ``"rank"``.
    layer
        Layer to read instead of ``X``.
    key_added
        Key in ``obsm``, with ``X_`` before it, and in ``uns``; ``"<key>_activity"`` by default.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["X_<key_added>"]``
        Activities, array of shape (n_cells, n_factors), float32.
    ``uns[key_added]["TF"]``
        Names of the factors in the order of the columns, that of their names in the table, sorted.

    Raises
    ------
    KeyError
        There is no such network or layer, or it lacks columns.
    ValueError
        There are several groups and none is chosen, or targets are not among the genes.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 50, 3, 1, seed=0)
    >>> dbx.pp.normalize_total(adata)
    >>> dbx.pp.log1p(adata)
    >>> dbx.tl.grn(adata, tf_names=adata.var_names[:5], method="correlation")
    >>> dbx.tl.grn_activity(adata, n_targets=10)
    >>> adata.obsm["X_grn_activity"].shape
    (100, 5)
    """
    check_key(key_added)
    check_whole(n_targets, 1, "n_targets")
    written = key_added or f"{key}_activity"
    slot = Slot.parse(matrix_slot(layer), mod)
    names = gene_names(adata, slot)
    edges = _edges(read(adata, Slot("uns", (key,), mod)), key, group, n_targets)
    _check_targets(edges, names, key)
    factors = pd.Index(np.unique(edges["TF"]))
    mask, targets = None, names.get_indexer(edges["target"])
    if method == "mean":
        mask, (targets,) = among(names, pd.Index(edges["target"]))
    operator = GRNActivity(
        regulators=tuple(factors.get_indexer(edges["TF"]).tolist()),
        targets=tuple(np.asarray(targets).tolist()),
        signs=tuple(edges["sign"].astype(int)),
        method=method,
        top=top,
    )
    return run_step(
        adata,
        operator,
        reads={"x": slot},
        writes={"activity": f"obsm/X_{written}"},
        constants={f"uns/{written}/TF": factors.to_numpy(object)},
        select=None if mask is None or mask.all() else mask,
        copy=copy,
        mod=mod,
    )


def _edges(table: pd.DataFrame, key: str, group: str | None, n_targets: int) -> pd.DataFrame:
    """The most important edges of each factor, of one group."""
    lacking = [name for name in COLUMNS if name not in table]
    if lacking:
        msg = f"adata.uns[{key!r}] lacks {listed(lacking)}: run dbx.tl.grn(adata, tf_names=...), or add the columns."
        raise UnknownNameError(msg)
    table = network_of(table, key, group)
    table = table[table["sign"] != 0].sort_values("importance", ascending=False, kind="stable")
    table = table.astype({"TF": str, "target": str})
    return table.groupby("TF", sort=False).head(n_targets)


def _check_targets(edges: pd.DataFrame, names: pd.Index, key: str) -> None:
    if edges.empty:
        msg = f"adata.uns[{key!r}] has no edge with a sign."
        raise ValueError(msg)
    absent = sorted(set(edges["target"]) - set(names))
    if len(absent) == edges["target"].nunique():
        msg = f"None of the genes of adata.uns[{key!r}] is in var_names ({listed(names)}); got {listed(absent)}."
        raise ValueError(msg)
    if absent:
        msg = (
            f"{len(absent)} targets of adata.uns[{key!r}] are not among the genes ({listed(absent)}): infer it "
            "from these genes, or remove their edges from the table."
        )
        raise ValueError(msg)
