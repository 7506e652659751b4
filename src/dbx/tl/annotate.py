"""Cell types of unlabelled cells, from labelled cells or from marker genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from dbx.ops.annotation.cellassign import CellAssign
from dbx.ops.annotation.celltypist import CellTypist
from dbx.ops.annotation.scanvi import ScANVI
from dbx.program import Slot, check_key, exists, gene_names, graph_slot, log, matrix_slot, resolve_seed, run_step
from dbx.tl._markers import marker_columns

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData

OPERATORS = {"celltypist": CellTypist, "scanvi": ScANVI, "cellassign": CellAssign}
BELONGS_TO = {
    "labels_key": ("celltypist", "scanvi"),
    "markers": ("cellassign",),
    "batch_key": ("scanvi", "cellassign"),
    "majority_voting": ("celltypist",),
    "over_clustering": ("celltypist",),
    "neighbors_key": ("celltypist",),
    "top_genes": ("celltypist",),
    "C": ("celltypist",),
    "n_copies": ("celltypist", "scanvi"),
    "likelihood": ("scanvi",),
    "n_latent": ("scanvi",),
    "n_hidden": ("scanvi",),
    "n_layers": ("scanvi",),
    "label_epochs": ("scanvi",),
    "max_epochs": ("scanvi", "cellassign"),
    "batch_size": ("scanvi", "cellassign"),
    "learning_rate": ("scanvi", "cellassign"),
    "other": ("cellassign",),
    "min_fold": ("cellassign",),
}
"""Which methods an argument is of."""
NOT_SETTINGS = ("labels_key", "markers", "batch_key", "majority_voting", "over_clustering", "neighbors_key")


def annotate(
    adata: AnnData | MuData,
    *,
    method: Literal["celltypist", "scanvi", "cellassign"] = "celltypist",
    labels_key: str | None = None,
    unlabeled: str | float | bool | None = "Unknown",
    markers: Mapping[str, Sequence[str]] | pd.DataFrame | None = None,
    layer: str | None = None,
    batch_key: str | None = None,
    min_confidence: float = 0.5,
    majority_voting: bool | None = None,
    over_clustering: str | None = None,
    neighbors_key: str | None = None,
    top_genes: int | None = None,
    C: float | None = None,
    n_copies: int | None = None,
    likelihood: Literal["nb", "zinb", "poisson"] | None = None,
    n_latent: int | None = None,
    n_hidden: int | None = None,
    n_layers: int | None = None,
    label_epochs: int | None = None,
    max_epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    other: bool | None = None,
    min_fold: float | None = None,
    key_added: str = "annotation",
    random_state: int | np.random.RandomState | None = 0,
    rng: int | np.random.Generator | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Annotate cells with cell types, learnt from the labelled ones or given by marker genes.

    ``"celltypist"``: multinomial logistic regression with a ridge penalty on log1p of counts per 10,000, on the genes
    with the largest coefficients, and a vote of neighbours or within clusters (Domínguez Conde et al., Science, 2022).
    It is also trained on thinned copies of the labelled cells and sees how well a cell's counts agree with the profile
    of each label, which celltypist does not: that makes it hold at lower depth.

    ``"scanvi"``: a semi-supervised variational autoencoder of counts (Xu et al., Molecular Systems Biology, 2021), with
    thinned copies as well. Use a few thousand variable genes.

    ``"cellassign"``: a negative binomial mixture in which markers of a type are over-expressed there (Zhang et al.,
    Nature Methods, 2019). No labels are needed.

    All cells are annotated, the labelled ones too, whatever label they have: compare to find doubtful labels. On new
    cells (``dbx.rerun``) the frozen model is applied; they need no labels, and labels they have are not used.

    Parameters
    ----------
    adata
        Raw counts of cells by genes; dense, sparse, backed or dask.
    method
        See above.
    labels_key
        Column of ``adata.obs`` with the labels that are known.
    unlabeled
        The value of cells without a label in that column, text or a number; missing values are unlabelled as well.
    markers
        Marker genes of each cell type: a dict of lists, a DataFrame with the columns ``cell_type`` and ``gene``, or an
        indicator DataFrame of genes by cell types.
    layer
        Layer with the counts instead of ``X``.
    batch_key
        Column of ``adata.obs`` with the batch.
    min_confidence
        Cells with a lower confidence are "Unassigned".
    majority_voting
        Let neighbours vote, by default if there are any (``dbx.pp.neighbors``): the confidence in a label is the mean
        of its probability in the cell and its share in the cell's edge weight to other cells.
    over_clustering
        Column of ``adata.obs`` with fine clusters, whose cells vote instead of neighbours.
    neighbors_key
        Vote along the connectivities that ``uns[neighbors_key]`` names.
    top_genes
        Genes kept for each label, 300 by default.
    C
        Inverse of the ridge penalty as in scikit-learn, 1 by default; a cell and its copies count as one.
    n_copies
        Thinned copies of each labelled cell: 4 by default, 2 for scanvi. Their depth lies log-uniformly between 50
        counts and the cell's own.
    likelihood
        Distribution of the counts, ``"nb"`` by default.
    n_latent, n_hidden, n_layers
        Latent dimensions (10), units of hidden layers (128) and their number (1).
    label_epochs
        Passes with labels, after ``max_epochs`` without; by default a quarter of these.
    max_epochs
        Passes over the cells; by default 200 (scanvi) or 400 (cellassign) up to 20,000 cells, fewer beyond.
    batch_size, learning_rate
        Most cells in a minibatch, and Adam's step size.
    other
        Have one more type that nothing marks, whose cells are "Unassigned"; yes by default.
    min_fold
        By what factor a marker is raised at least, 2 by default.
    key_added
        Key of ``obs``, ``obsm`` and ``uns``.
    random_state, rng
        Seed.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs["annotation" | key_added]``
        Label of each cell, categorical; the last category is "Unassigned".
    ``obs[f"{key_added}_confidence"]``
        Probability of the most probable label, or its mean with the share of the vote, float32.
    ``obsm[f"{key_added}_probabilities"]``
        Array of shape (n_cells, n_labels), float32, labels in the order of the categories; before the vote. cellassign
        has a last column for "Unassigned" with ``other``.
    ``obsm["X_scanvi" | f"X_{key_added}"]``
        Posterior means of scanvi, array of shape (n_cells, n_latent), float32.
    ``uns[key_added]``
        ``params`` and, of scanvi and cellassign, ``history``: arrays of shape (n_epochs,).

    Raises
    ------
    ValueError
        The matrix does not hold counts; all cells are unlabelled or have one label; no marker of a type is among the
        genes; an argument is of another method.
    SlotError
        A column or the neighbours are missing.
    FloatingPointError
        Training diverged.
    """
    check_key(key_added)
    given = {name: value for name, value in locals().items() if name in BELONGS_TO and value is not None}
    _check_arguments(method, given)
    settings: dict[str, Any] = {name: value for name, value in given.items() if name not in NOT_SETTINGS}
    reads: dict[str, str] = {"x": matrix_slot(layer)}
    if method == "cellassign":
        names = gene_names(adata, Slot.parse(reads["x"], mod)) if mod is None else adata.mod[mod].var_names
        settings["classes"], settings["markers"] = marker_columns(markers, names)
    else:
        reads["labels"], settings["unlabeled"] = f"obs/{labels_key}", _plain(unlabeled)
    if batch_key is not None:
        reads["batch"] = f"obs/{batch_key}"
    if method == "celltypist":
        voters = _voters(adata, majority_voting, over_clustering, neighbors_key, mod)
        settings["vote"] = {"graph": "neighbors", "clusters": "clusters"}.get(next(iter(voters), ""))
        reads |= voters
    operator = OPERATORS[method](**settings, min_confidence=min_confidence)
    writes = {
        "labels": f"obs/{key_added}",
        "confidence": f"obs/{key_added}_confidence",
        "probabilities": f"obsm/{key_added}_probabilities",
    }
    if method != "celltypist":
        writes["history"] = f"uns/{key_added}/history"
    if method == "scanvi":
        writes["z"] = "obsm/X_scanvi" if key_added == "annotation" else f"obsm/X_{key_added}"
    params = {"method": method, "labels_key": labels_key, "layer": layer, "batch_key": batch_key}
    return run_step(
        adata,
        operator,
        reads=reads,
        writes=writes,
        constants={f"uns/{key_added}/params": {k: v for k, v in params.items() if v is not None}},
        seed=resolve_seed(random_state, rng),
        copy=copy,
        mod=mod,
    )


def _plain(unlabeled: Any) -> str | float | bool | None:
    """As the step's settings keep it: NaN as None."""
    return None if pd.isna(unlabeled) else unlabeled


def _check_arguments(method: str, given: Mapping[str, Any]) -> None:
    if method not in OPERATORS:
        msg = f"method={method!r} is not known: choose one of {', '.join(map(repr, OPERATORS))}."
        raise ValueError(msg)
    wrong = [name for name in given if method not in BELONGS_TO[name]]
    if wrong:
        of = ", ".join(f"{name} (of {' and '.join(BELONGS_TO[name])})" for name in wrong)
        msg = f"method={method!r} does not use {of}: leave it out, or choose another method."
        raise ValueError(msg)
    needed = "markers" if method == "cellassign" else "labels_key"
    if needed not in given:
        what = "marker genes of each cell type" if needed == "markers" else "the column of obs with the known labels"
        msg = f"method={method!r} needs {needed}: {what}."
        raise ValueError(msg)


def _voters(data, majority_voting: bool | None, over_clustering, neighbors_key, mod: str | None) -> dict[str, str]:
    """Which slot votes: clusters where they are named, else neighbours; nothing if it is not wanted."""
    if over_clustering is not None and neighbors_key is not None:
        msg = "Name `over_clustering` or `neighbors_key`, not both: one of them votes."
        raise ValueError(msg)
    if majority_voting is False:
        if over_clustering is not None or neighbors_key is not None:
            msg = "majority_voting=False lets nobody vote: leave over_clustering and neighbors_key out."
            raise ValueError(msg)
        return {}
    if over_clustering is not None:
        return {"clusters": f"obs/{over_clustering}"}
    named = neighbors_key is not None or majority_voting
    if not named and not exists(data, Slot.parse("uns/neighbors", mod)):
        log.info("There are no neighbours, which could vote (dbx.pp.neighbors): cells are annotated each alone.")
        return {}
    return {"graph": graph_slot(data, neighbors_key, mod=mod)}
