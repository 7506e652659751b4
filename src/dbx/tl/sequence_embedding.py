"""Embeddings and classes of DNA and RNA sequences."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from dbx.ops.checks import check_known
from dbx.ops.sequence.embedding import SequenceEmbedding
from dbx.ops.sequence.embedding_operator import SequenceOperator
from dbx.ops.sequence.transformer_encoder import TransformerSequenceEncoder
from dbx.ops.sequence.weights import save
from dbx.program import check_key, resolve_seed, run_step
from dbx.tl._sequences import along_genes, sequences_of

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def sequence_embedding(
    adata: AnnData | MuData,
    *,
    method: Literal["cnn", "transformer"] = "cnn",
    sequence_key: str = "sequence",
    axis: Literal["obs", "var"] = "obs",
    use_rep: str | None = None,
    alphabet: Literal["DNA", "RNA"] = "DNA",
    tokens: Literal["base", "kmer"] = "base",
    k: int = 6,
    max_length: int | None = None,
    words: int = 4,
    embedding_dim: int = 64,
    n_layers: int = 2,
    n_heads: int = 4,
    n_hidden: int = 128,
    kernel_sizes: Sequence[int] = (7, 5),
    dropout: float = 0.1,
    pooling: Literal["auto", "mean", "max", "cls", "attention", "position"] = "auto",
    positions: Literal["learned", "sinusoidal", "rotary"] = "learned",
    reverse_complement: bool = False,
    labels_key: str | None = None,
    unlabeled: str = "Unknown",
    batch_size: int = 64,
    pretrain_epochs: int | None = None,
    mask_rate: float = 0.15,
    pretrain_on: AnnData | None = None,
    max_epochs: int | None = None,
    freeze_encoder: bool = False,
    ensemble: int = 1,
    class_weight: Literal["balanced"] | None = "balanced",
    weights: str | PathLike[str] | None = None,
    save_weights: str | PathLike[str] | None = None,
    learning_rate: float = 2e-3,
    validation: float = 0.1,
    key_added: str = "X_sequence",
    random_state: Any = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Encode sequences by a trained network, and classify them where some have labels.

    With labels, a penalised regression on words of up to ``words`` bases comes first: words at each position where all
    sequences have one length, as of aligned sites, or by phase otherwise. It is the weighted degree kernel of
    Sonnenburg, Raetsch and Rieck (Large-Scale Kernel Machines, 2007) with a penalty chosen by cross-validation, in
    which sequences that share a word of 25 bases are on one side. Sequences without a label take part with the class
    that it predicts for them, if held-out labels are then predicted better. Of sequences that are not aligned, those
    with a label also take part without their first one or two bases, and from the other strand, where this turns each
    class into one class, the same or another (as another reading frame), and held-out labels are then predicted better.
    A network is trained beside it on what held-out logits of the regression lack, and its part is kept if held-out
    sequences, more than 2% of which the regression misclassifies, are then predicted better. Without labels, or before,
    the network learns to predict hidden bases (BERT; DNABERT, Ji et al., Bioinformatics 2021).

    Parameters
    ----------
    adata
        Annotated data whose rows are sequences.
    method
        ``"cnn"``: filters of motifs and residual convolutions. ``"transformer"``: self-attention between tokens.
    sequence_key
        Column of ``obs`` with the sequences, upper or lower case. U is T; N and the other letters of IUPAC for several
        bases are their mean.
    axis
        ``"var"``: sequences are those of genes or peaks, in ``var`` and ``varm``, where results are also written. It is
        then not recorded as a step: steps map cells, and new cells have the genes of the fitted ones, with nothing to
        compute. For other genes use ``save_weights``, then ``weights``.
    use_rep
        Key of ``obsm`` with sequences instead: one-hot, of shape (n, length, 4), or token numbers, of shape
        (n, length), with -1 as padding.
    alphabet
        ``"DNA"`` or ``"RNA"``: names of bases in results.
    tokens
        Tokens of the transformer: bases, or words of ``k`` bases that follow each other (``"kmer"``).
    k
        Length of a word, at most 6.
    max_length
        Number of positions, where longer sequences are cut; the longest by default.
    words
        Bases of the longest words of the regression; 0 for the network alone.
    embedding_dim
        Columns of the embedding: first a score of each class by the regression, then the network's. Also the width of
        the transformer.
    n_layers
        Number of layers.
    n_heads
        Heads of the transformer and of ``pooling="attention"``.
    n_hidden
        Channels of the CNN, or hidden units within a block of the transformer.
    kernel_sizes
        Widths of the layers of the CNN; the last one is repeated.
    dropout
        Fraction of channels that are dropped in training.
    pooling
        How features of positions become one vector. ``"position"`` keeps each position, for aligned sequences of one
        length: a mean cannot place a splice site. ``"attention"`` has heads that may prefer a phase of codons.
        ``"auto"`` is ``"position"`` where all sequences have one length, attention and the largest value otherwise.
        ``"cls"``, a token for the whole sequence, is for the transformer.
    positions
        Codes of positions of the transformer; rotary by Su et al. (Neurocomputing, 2024).
    reverse_complement
        Give a sequence and its reverse complement the same embedding: the network sees both strands.
    labels_key
        Column of ``obs`` with classes.
    unlabeled
        Category for sequences without a class, as is a missing value.
    batch_size
        Maximum minibatch size.
    pretrain_epochs
        Epochs of learning to predict hidden bases; about 800 steps by default, and none with labels. Labels are then
        learned from the network before pre-training as well, with the same draws, which doubles the time of that.
        Pre-training is kept only if the loss of held-out labels is lower after it by more than a standard error, and
        more than 2% of them were misclassified without it. With ``freeze_encoder=True``, or where nothing is held out,
        it is kept without being judged.
    mask_rate
        Fraction of positions that are to be predicted: 80% of them are hidden, 10% show another base.
    pretrain_on
        Other data, with the same column or key, whose sequences are used for pre-training instead, by default in about
        800 steps also with labels; it is judged in the same way.
    max_epochs
        Maximum epochs of learning labels; about 400 steps by default.
    freeze_encoder
        Only train the last layer on labels, after pre-training.
    ensemble
        Number of networks that are trained side by side; their logits are averaged and their embeddings are side by
        side.
    class_weight
        ``"balanced"`` gives classes equal weight, None sequences.
    weights
        Safetensors file of ``save_weights`` with a network to start from, instead of pre-training; it is not judged
        beside a drawn one, since the choice of a file is yours. Settings of the network must be those of the file,
        whose metadata name them. Its tensors, named as the network's parameters (``encoder.filters.linear.kernel``,
        ``encoder.blocks.0.within.kernel``, ``project.kernel``, ``unmask.kernel``, ...), have a leading axis for the
        networks of the ensemble; the head of classes is not taken over.
    save_weights
        File to write the trained network to.
    learning_rate
        Learning rate of Adam.
    validation
        Fraction of labelled sequences held out to stop in time.
    key_added
        Key of the embedding; without ``X_`` the start of other keys.
    random_state
        Seed.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["X_sequence"]``
        Embedding, array of shape (n_sequences, embedding_dim).
    ``obs["sequence_label"]``
        Most probable class, categorical, with ``labels_key``.
    ``obsm["sequence_probability"]``
        Probabilities of the classes in the order of the categories, with ``labels_key``.
    ``uns["sequence"]["history"]``
        Loss and masked accuracy of pre-training, and loss, accuracy and loss of held-out sequences of training, by
        epoch. Where pre-training was judged, ``["pretraining"]`` also has the ``verdict``, ``"pretrained kept"`` or
        ``"reverted"``, and in ``validation_loss`` the loss of held-out sequences after learning labels from either
        start, ``pretrained`` and ``plain``, with the ``standard_error`` of their difference; ``misclassified`` is the
        share of them that is after the plain start. The embedding, classes and ``save_weights`` are of the network that
        is kept, and so is the history of training.

    Raises
    ------
    KeyError
        There is no such column or key.
    ValueError
        A sequence has another letter (its row and position are named) or is empty; all labels are missing or the same;
        nothing would be trained; a setting belongs to the other method.

    Notes
    -----
    :func:`dbx.rerun` embeds new sequences by the trained network. Padding changes nothing. A refit reads the file of
    ``weights`` again, and is refused after ``pretrain_on``, whose sequences a program does not keep: pre-train on them
    alone with ``save_weights``, and pass the file as ``weights``.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import dbx
    >>> rng = np.random.default_rng(0)
    >>> bases = np.array(list("ACGT"))[rng.integers(0, 4, (200, 20))]
    >>> bases[:100, 10:12] = ["G", "T"]
    >>> sites = ad.AnnData(obs={"sequence": ["".join(row) for row in bases], "site": ["yes"] * 100 + ["no"] * 100})
    >>> dbx.tl.sequence_embedding(sites, labels_key="site", max_epochs=2)
    >>> sites.obsm["X_sequence"].shape
    (200, 64)
    """
    check_key(key_added)
    check_known(method, ("cnn", "transformer"), "method")
    check_known(axis, ("obs", "var"), "axis")
    settings: dict[str, Any] = {
        "alphabet": alphabet,
        "max_length": max_length,
        "words": words,
        "embedding_dim": embedding_dim,
        "n_layers": n_layers,
        "n_heads": n_heads,
        "n_hidden": n_hidden,
        "dropout": dropout,
        "pooling": pooling,
        "reverse_complement": reverse_complement,
        "unlabeled": unlabeled,
        "batch_size": batch_size,
        "pretrain_epochs": pretrain_epochs,
        "mask_rate": mask_rate,
        "max_epochs": max_epochs,
        "freeze_encoder": freeze_encoder,
        "ensemble": ensemble,
        "class_weight": class_weight,
        "weights": None if weights is None else str(weights),
        "learning_rate": learning_rate,
        "validation": validation,
    }
    operator: SequenceOperator
    if method == "cnn":
        _refuse("cnn", tokens=(tokens, "base"), k=(k, 6), positions=(positions, "learned"))
        operator = SequenceEmbedding(kernel_sizes=tuple(kernel_sizes), **settings)
    else:
        _refuse("transformer", kernel_sizes=(tuple(kernel_sizes), (7, 5)))
        operator = TransformerSequenceEncoder(tokens=tokens, k=k, positions=positions, **settings)
    reads = {"text": f"obs/{sequence_key}"} if use_rep is None else {"x": f"obsm/{use_rep}"}
    fit_with = {} if pretrain_on is None else {"pretrain_on": sequences_of(pretrain_on, reads)}
    name = key_added.removeprefix("X_")
    writes = {"z": f"obsm/{key_added}", "history": f"uns/{name}/history"}
    if labels_key is not None:
        reads["labels"] = f"obs/{labels_key}"
        writes |= {"labels": f"obs/{name}_label", "probabilities": f"obsm/{name}_probability"}
    how: dict[str, Any] = {"reads": reads, "writes": writes, "fit_with": fit_with, "copy": copy}
    how["seed"] = resolve_seed(random_state, None)
    found = along_genes(adata, operator, mod=mod, **how) if axis == "var" else run_step(adata, operator, mod=mod, **how)
    if save_weights is not None:
        save(operator, save_weights)
    return found


def _refuse(method: str, **given: tuple[Any, Any]) -> None:
    """Refuse settings of the other method."""
    wrong = [name for name, (value, default) in given.items() if value != default]
    if wrong:
        msg = f"method={method!r} does not use {' and '.join(wrong)}: leave it out, or choose the other method."
        raise ValueError(msg)
