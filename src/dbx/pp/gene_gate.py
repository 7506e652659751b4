"""A trainable gate on every gene."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from dbx.ops.genes.gene_gate import GeneGate, best_first
from dbx.program import Slot, check_key, matrix_slot, read, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def gene_gate(
    adata: AnnData | MuData,
    n_genes: int = 200,
    *,
    method: Literal["top_k", "l0"] = "top_k",
    by: str | None = "dispersions_norm",
    layer: str | None = None,
    temperature: float | None = None,
    key_added: str = "gene_gate",
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Keep a few genes and set the others to zero, by gates that :func:`dbx.optimize` can train.

    Before any training the open genes are the first ``n_genes`` of a ranking, the same as ``adata[:, genes]`` after
    :func:`scanpy.pp.highly_variable_genes`. Trained together with the steps that read the layer,
    ``dbx.optimize(adata, loss, train=["gene_gate", "pca"])``, they become the genes that reduce the loss.

    Parameters
    ----------
    adata
        Cells by genes.
    n_genes
        Number of genes to open; with ``"l0"`` only the initial number. Start with more than needed, or all: gates
        close more readily than they open.
    method
        ``"top_k"``: always ``n_genes`` are open; training sees a sigmoid in place of the step (straight-through,
        Bengio, Leonard and Courville, arXiv 1308.3432). ``"l0"``: hard concrete gates (Louizos, Welling and Kingma,
        ICLR 2018), whose number is learned under a penalty: ``loss + weight * dbx.losses.OpenGates("gene_gate")``.
    by
        Numeric column of ``adata.var`` that ranks the genes, larger values first; None for Seurat's normalised
        dispersions of the values themselves, which must be logarithms. ``dbx.rerun(refit=True)`` keeps the ranking of
        a column, and recomputes that of None.
    layer
        Layer to use instead of ``X``.
    temperature
        Softness of the gates in training. For ``"top_k"`` relative to the spread of the scores, by default such that
        noise opens as many genes outside the best ``n_genes`` again; for ``"l0"`` that of the paper (2/3).
    key_added
        Key in ``layers`` and ``var``.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Sets:

    ``adata.layers[key_added]``
        Values of the open genes, zero for the others, array of shape (n_cells, n_genes); sparse if the input is. For
        example for ``dbx.pp.pca(adata, layer="gene_gate", mask_var=None)``; without ``mask_var=None`` it would use the
        genes in ``var["highly_variable"]`` only.
    ``adata.var[key_added]``
        Whether the gate is open.
    ``adata.var[key_added + "_score"]``
        Score of the gate: normal quantile of the gene's rank (the ``n_genes`` highest are open), or ``log_alpha``.

    Raises
    ------
    ValueError
        There are fewer genes than ``n_genes``; ``by`` is not a numeric column; ``by=None`` and the values are
        not logarithms.
    KeyError
        There is no such column or layer.
    """
    check_key(key_added)
    order = None if by is None else tuple(best_first(_numbers(adata, by, mod)).tolist())
    return run_step(
        adata,
        GeneGate(n_genes=n_genes, method=method, temperature=temperature, order=order),
        reads={"x": matrix_slot(layer)},
        writes={"x": f"layers/{key_added}", "open": f"var/{key_added}", "score": f"var/{key_added}_score"},
        copy=copy,
        mod=mod,
    )


def _numbers(adata, by: str, mod: str | None) -> np.ndarray:
    column = pd.Series(read(adata, Slot("var", (by,), mod)))
    if not pd.api.types.is_numeric_dtype(column):
        msg = f"by={by!r} is not a numeric column of var: name one that ranks genes, larger values first."
        raise ValueError(msg)
    return column.to_numpy(np.float64)
