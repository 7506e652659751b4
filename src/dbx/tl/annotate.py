"""Cell types of unlabelled cells, from labelled cells or from marker genes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from dbx.program import check_key, resolve_seed, run_step
from dbx.tl._annotators import Cells, own_arguments, prepared

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData
    from mudata import MuData


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
    """Annotate cells with cell types, learned from the labelled ones or given by marker genes.

    ``"celltypist"``: multinomial logistic regression with a ridge penalty on log1p of counts per 10,000, on the genes
    with the largest coefficients, and a vote of neighbours or within clusters (Domínguez Conde et al., Science, 2022).
    Unlike celltypist it is also trained on thinned copies of the labelled cells, and has further features: how well a
    cell's counts agree with the profile of each label. Both keep it accurate at lower depth.

    ``"scanvi"``: a semi-supervised variational autoencoder of counts (Xu et al., Molecular Systems Biology, 2021), also
    with thinned copies, on the ``top_genes`` most variable genes. The genes are recorded by name: new cells need these
    and no others.

    ``"cellassign"``: a negative binomial mixture in which markers of a type are over-expressed there (Zhang et al.,
    Nature Methods, 2019). No labels are needed.

    All cells are annotated, including the labelled ones, so that doubtful labels can be found by comparison. On new
    cells (``dbx.rerun``) the frozen model is applied; they need no labels, and existing ones are not used.

    Parameters
    ----------
    adata
        Raw counts of cells by genes; dense, sparse, backed or dask.
    method
        See above.
    labels_key
        Column of ``adata.obs`` with the known labels.
    unlabeled
        Value of unlabelled cells in that column, text or a number; missing values are unlabelled as well.
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
        Combine each cell's probabilities with a vote of its neighbours, by default if there are any
        (``dbx.pp.neighbors``): the confidence in a label is the mean of its probability in the cell and its fraction of
        the cell's edge weight to other cells.
    over_clustering
        Column of ``adata.obs`` with fine clusters, whose cells vote instead of neighbours.
    neighbors_key
        Use the connectivities of ``uns[neighbors_key]`` for the vote.
    top_genes
        celltypist: genes kept for each label, 300 by default. scanvi: genes to train on, the 2,000 most variable by
        default, by the variance of their Pearson residuals, within batches if there are any.
    C
        Inverse of the ridge penalty as in scikit-learn, 1 by default; a cell and its copies have the weight of one.
    n_copies
        Thinned copies of each labelled cell: 4 by default, 2 for scanvi. Their depth is log-uniform between 50 counts
        and the cell's own.
    likelihood
        Distribution of the counts, ``"nb"`` by default.
    n_latent, n_hidden, n_layers
        Latent dimensions (10), units of hidden layers (128) and their number (1).
    label_epochs
        Passes with labels, after ``max_epochs`` without; by default a quarter of these, or 50 if neither is given.
    max_epochs
        Passes over the cells, for scanvi with their copies; by default 400 (cellassign) or as many minibatches as in
        200 passes without copies (scanvi), up to 20,000 cells, fewer above.
    batch_size, learning_rate
        Maximum minibatch size, and Adam's step size.
    other
        Add a type without markers, whose cells are "Unassigned"; True by default.
    min_fold
        Minimum factor by which a marker is over-expressed in its type, 2 by default.
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
        Probability of the most probable label, or its mean with the fraction of the vote, float32.
    ``obsm[f"{key_added}_probabilities"]``
        Array of shape (n_cells, n_labels), float32, labels in the order of the categories; before the vote. With
        ``other``, cellassign has a last column for "Unassigned".
    ``obsm["X_scanvi" | f"X_{key_added}"]``
        Posterior means of scanvi, array of shape (n_cells, n_latent), float32.
    ``uns[key_added]``
        ``params`` and, for scanvi and cellassign, ``history``: arrays of shape (n_epochs,).

    Raises
    ------
    ValueError
        The matrix does not hold counts; all cells are unlabelled or have one label; no marker of a type is among the
        genes; an argument belongs to another method.
    SlotError
        A column or the neighbours are missing.
    FloatingPointError
        Training diverged.
    """
    check_key(key_added)
    network = {"max_epochs": max_epochs, "batch_size": batch_size, "learning_rate": learning_rate}
    labelled = {"labels_key": labels_key, "top_genes": top_genes, "n_copies": n_copies}
    arguments: dict[str, dict[str, Any]] = {
        "celltypist": {
            **labelled,
            "majority_voting": majority_voting,
            "over_clustering": over_clustering,
            "neighbors_key": neighbors_key,
            "C": C,
        },
        "scanvi": {
            **labelled,
            **network,
            "batch_key": batch_key,
            "likelihood": likelihood,
            "n_latent": n_latent,
            "n_hidden": n_hidden,
            "n_layers": n_layers,
            "label_epochs": label_epochs,
        },
        "cellassign": {**network, "markers": markers, "batch_key": batch_key, "other": other, "min_fold": min_fold},
    }
    given = own_arguments(method, arguments)
    step = prepared(method, Cells(adata, layer, mod), given, unlabeled, min_confidence)
    names = {"labels": "", "confidence": "_confidence"}
    writes = {name: f"obs/{key_added}{end}" for name, end in names.items()}
    writes["probabilities"] = f"obsm/{key_added}_probabilities"
    if "history" in step.operator.outputs:
        writes["history"] = f"uns/{key_added}/history"
    if "z" in step.operator.outputs:
        writes["z"] = "obsm/X_scanvi" if key_added == "annotation" else f"obsm/X_{key_added}"
    params = {"method": method, "labels_key": labels_key, "layer": layer, "batch_key": batch_key}
    return run_step(
        adata,
        step.operator,
        reads=step.reads,
        writes=writes,
        constants={f"uns/{key_added}/params": {k: v for k, v in params.items() if v is not None}},
        select=step.genes,
        seed=resolve_seed(random_state, rng),
        copy=copy,
        mod=mod,
    )
