"""A foundation model of expression: cells as sets of genes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from dbx.ops.checks import UnknownNameError, as_names, listed
from dbx.ops.foundation import checkpoint
from dbx.ops.foundation.foundation_model import FoundationModel
from dbx.program import Slot, check_key, gene_names, matrix_slot, read, resolve_seed, run_step
from dbx.program.compat import own_copy
from dbx.program.known_genes import known_genes

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def foundation_model(
    adata: AnnData | MuData,
    *,
    layer: str | None = None,
    genes: str | Sequence[str] | None = None,
    values: Literal["rank", "bins", "count", "both"] = "count",
    objective: Literal["value", "rank", "both"] = "value",
    likelihood: Literal["nb", "poisson", "gaussian"] = "nb",
    max_length: int = 1024,
    sampling: Literal["expressed", "balanced"] = "expressed",
    n_layers: int = 3,
    n_hidden: int = 128,
    n_heads: int = 4,
    attention: Literal["full", "linear", "induced"] = "induced",
    n_induced: int = 32,
    mask_rate: float = 0.15,
    mask_rate_range: tuple[float, float] | None = (0.1, 0.6),
    batch_key: str | None = None,
    labels_key: str | None = None,
    unlabeled: str | float | bool | None = "Unknown",
    pretrain: bool = True,
    finetune: bool = True,
    freeze_encoder: bool = False,
    pooling: Literal["cls", "mean"] = "cls",
    contrastive_weight: float = 0.0,
    max_epochs: int | None = None,
    batch_size: int = 64,
    learning_rate: float = 5e-3,
    weights: str | Path | None = None,
    save_weights: str | Path | None = None,
    expected: bool = False,
    mask: str | None = None,
    key_added: str = "X_foundation",
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Pre-train a transformer on cells as sets of genes, and embed, impute or label cells with it.

    A token is the sum of a gene's embedding and an embedding of its value in the cell; genes have no order, so that
    none of the results depends on the order of columns. The network predicts the counts of genes that are hidden from
    it (as scGPT: Cui et al., Nature Methods, 2024), or which gene has a rank (as Geneformer: Theodoris et al., Nature,
    2023). It starts at the frequency of each gene times the depth that the shown genes suggest, with genes that vary
    together close to each other, and learns from there; in half of the cells of a step counts are thinned besides. With
    up to five million counts, three tenths of what it predicts are those of the 30 nearest cells of the batch: its own
    are one draw of what a cell expresses. A tenth of the cells is held out, and the mean parameters of the last steps,
    of the best epoch on them, are kept.

    With labels, a multinomial regression on the vectors of cells and their values is fitted, each class with the same
    weight, and the network is trained further on labelled cells, at a fiftieth of ``learning_rate``; that is kept only
    if held-out labelled cells are predicted better, and not tried with fewer than four of a class.

    With a few thousand cells there is no atlas to remember: ``benchmarks/foundation.md`` compares with principal
    components, neighbours and regression on all genes, and lists what was tried. New cells (``dbx.rerun``) pass through
    the frozen network one by one, without their batch; at least half of the genes must be among theirs.
    ``dbx.optimize(adata, loss, train="foundation_model")`` trains the network for another objective.

    Parameters
    ----------
    adata
        Raw counts of cells by genes, best of some hundred to a few thousand variable genes; dense, sparse or backed.
    layer
        Layer with the counts instead of ``X``.
    genes
        Genes to use: names, or a column of ``var`` of True and False; by default all.
    values
        What the network sees of a count: itself and its residual to what the gene and the depth suggest (``"count"``),
        its rank in the cell, as :func:`dbx.pp.gene_tokens` ranks (``"rank"``), its logarithmic bin (``"bins"``), or
        counts and ranks (``"both"``). In ``benchmarks/foundation.md`` counts predict hidden genes best, and vectors
        from ranks or bins tell types apart better from few labels.
    objective
        Predict the counts of hidden genes, the gene at a rank, or both.
    likelihood
        Distribution of hidden counts: negative binomial with a dispersion for each gene, Poisson, or normal of log
        counts.
    max_length
        Largest number of tokens of a cell. With more genes, expressed ones come first, those furthest above their mean
        before others, then ones without counts, which say something too.
    sampling
        ``"balanced"`` keeps half of the places for genes without counts.
    n_layers, n_hidden, n_heads
        Blocks of attention, length of vectors, and heads.
    attention
        ``"induced"``: some vectors attend to the genes, then to each other, linear in the number of tokens (Lee et al.,
        ICML, 2019); ``"linear"``: tokens attend to each other by a kernel (Katharopoulos et al., ICML, 2020);
        ``"full"``: by softmax, quadratic in the number of tokens, and slow without a GPU.
    n_induced
        Vectors that attend to the genes.
    mask_rate
        Share of genes hidden in validation, and at a time for ``expected``.
    mask_rate_range
        The share hidden in training is drawn for each cell between these; None for ``mask_rate``.
    batch_key
        Column of ``obs`` with the batch: frequencies of genes in the head, not seen by the network.
    labels_key
        Column of ``obs`` with known labels.
    unlabeled
        Value of unlabelled cells in that column; missing values are unlabelled as well.
    pretrain
        False uses the network of ``weights`` as it is.
    finetune
        False for a call without labels.
    freeze_encoder
        Fit the regression alone.
    pooling
        The vector of a cell is that of a token (or induced point) for it, or the mean of all.
    contrastive_weight
        Weight of a further loss: two views of a cell, with different genes hidden, must be closer to each other than to
        other cells.
    max_epochs
        Passes over the cells; by default about 800 steps, but from 5 to 60 passes.
    batch_size, learning_rate
        Maximum minibatch size, and Adam's largest step size.
    weights
        File of ``save_weights`` to start from, with the same settings. Genes are found by name: at least half must be
        known; others start anew.
    save_weights
        Write the network to this file, in the safetensors format: ``gene_embedding``, ``gene_decoder``, ``frequency``
        and others of each gene, ``value_...``, ``reading...`` or ``tokens...``, ``blocks.N...``, ``head...``, with
        the names of genes and the settings in the header.
    expected
        Write expected counts, of each gene given the other genes. With up to five million counts, and not with
        ``likelihood="gaussian"``, two fifths are those that the cell would have with the gene shares of the 30 fitted
        cells nearest to it, without its own: the program then keeps their counts.
    mask
        Layer of 1 for entries that are hidden from everything and predicted from the others, and 0 elsewhere.
    key_added
        Key of ``obsm`` for the vectors; other keys start with its name without ``"X_"``.
    random_state
        Seed.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["X_foundation" | key_added]``
        Vectors of cells, array of shape (n_cells, n_hidden), float32.
    ``varm["foundation_gene"]``
        Embeddings of genes, array of shape (n_genes, n_hidden), float32; 0 for genes that were not used.
    ``obs["foundation_label"]``, ``obsm["foundation_probability"]`` (with labels)
        Most probable label, and probabilities, array of shape (n_cells, n_classes), in the order of the categories.
    ``layers["foundation_expected"]`` (``expected=True``)
        Expected counts, dense, float32.
    ``uns["foundation_model" | key_added]["history"]``
        Arrays of shape (n_epochs,): ``loss``, its terms ``value`` and ``rank``, and ``validation_loss``, in nats for a
        hidden gene without terms of the counts alone; ``finetune_loss`` and ``finetune_validation_loss``.

    Raises
    ------
    ValueError
        The matrix does not hold counts; a cell has none; labels are all unknown or of one class; settings contradict
        each other; ``weights`` is no such file, lacks tensors, has other settings, or knows under half of the genes.
    KeyError
        A gene, layer or column is missing.
    FloatingPointError
        Training diverged; the message says what to try.

    See Also
    --------
    dbx.get.gene_neighbors : Genes with similar embeddings.
    dbx.pl.masked_fit : Observed against predicted values of hidden genes.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(100, 200, 2, 1, seed=0)
    >>> dbx.tl.foundation_model(adata, n_layers=1, n_hidden=16, n_induced=4, max_epochs=2)
    >>> adata.obsm["X_foundation"].shape
    (100, 16)
    """
    check_key(key_added)
    slot = matrix_slot(layer)
    select = None if genes is None else _selected(adata, genes, Slot.parse(slot, mod))
    names = gene_names(adata, Slot.parse(slot, mod))
    used = names if select is None else names[select]
    if expected and select is not None:
        msg = "expected=True writes a layer of all genes: leave genes out, or keep only these, adata[:, genes].copy()."
        raise ValueError(msg)
    settings: dict[str, Any] = {
        "values": values,
        "objective": objective,
        "likelihood": likelihood,
        "max_length": max_length,
        "sampling": sampling,
        "n_layers": n_layers,
        "n_hidden": n_hidden,
        "n_heads": n_heads,
        "attention": attention,
        "n_induced": n_induced,
        "mask_rate": mask_rate,
        "mask_rate_range": None if mask_rate_range is None else tuple(mask_rate_range),
        "pretrain": pretrain,
        "finetune": finetune,
        "freeze_encoder": freeze_encoder,
        "pooling": pooling,
        "contrastive_weight": contrastive_weight,
        "max_epochs": max_epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "weights": None if weights is None else str(weights),
        "gene_rows": () if weights is None else _rows(str(weights), used),
        "expected": expected,
        "labelled": labels_key is not None,
        "unlabeled": unlabeled,
    }
    operator = FoundationModel.declared(settings)(**settings)
    if save_weights is not None and not Path(save_weights).resolve().parent.is_dir():
        msg = f"There is no folder {str(Path(save_weights).parent)!r} for save_weights."
        raise ValueError(msg)
    name = key_added.removeprefix("X_")
    key = "foundation_model" if key_added == "X_foundation" else key_added
    reads: dict[str, str] = {"x": slot}
    optional = {"mask": ("layers", mask), "batch": ("obs", batch_key), "labels": ("obs", labels_key)}
    reads |= {port: f"{container}/{key_}" for port, (container, key_) in optional.items() if key_ is not None}
    if mask is not None:
        _check_mask(adata, Slot("layers", (mask,), mod))
    writes = {"z": f"obsm/{key_added}", "genes": f"varm/{name}_gene", "history": f"uns/{key}/history"}
    if labels_key is not None:
        writes |= {"labels": f"obs/{name}_label", "probabilities": f"obsm/{name}_probability"}
    if expected:
        writes["expected"] = f"layers/{name}_expected"
    data = own_copy(adata, copy=copy)
    run_step(data, operator, reads=reads, writes=writes, select=select, seed=resolve_seed(random_state, None), mod=mod)
    if save_weights is not None:
        checkpoint.save(str(save_weights), operator.model, list(map(str, used)))
    return data if copy else None


def _selected(adata: AnnData | MuData, genes: str | Sequence[str], slot: Slot) -> np.ndarray:
    """Which genes are used, an array of shape (n_genes,), bool."""
    names = gene_names(adata, slot)
    if isinstance(genes, str):
        column = read(adata, Slot("var", (genes,), slot.mod))
        if column.dtype != bool:
            msg = f"genes={genes!r} must be a column of True and False; adata.var[{genes!r}] is {column.dtype}."
            raise ValueError(msg)
        chosen = np.asarray(column, bool)
    else:
        wanted = pd.Index(as_names(genes, "genes"))
        if len(missing := wanted.difference(names)):
            msg = f"There are no genes {listed(missing)}."
            raise UnknownNameError(msg)
        chosen = names.isin(wanted)
    if chosen.sum() < 2:
        msg = f"genes must be at least 2, to predict some from others; got {chosen.sum()}."
        raise ValueError(msg)
    return chosen


def _rows(path: str, genes: pd.Index) -> tuple[int, ...]:
    """The place of each gene in a file."""
    return tuple(known_genes(genes, checkpoint.vocabulary(path), f"the weights in {path}").tolist())


def _check_mask(adata: AnnData | MuData, slot: Slot) -> None:
    from dbx.data import RowBlocks

    for block in RowBlocks(read(adata, slot)):
        if not np.isin(block.rows, (0, 1)).all():
            msg = f"{slot.written()} must hold 1 for hidden entries and 0 for others."
            raise ValueError(msg)
