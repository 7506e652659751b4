"""Abundances of transcripts from equivalence classes of fragments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from dbx.ops.abundance.classes import told_apart
from dbx.ops.abundance.effective_length import effective_lengths
from dbx.ops.abundance.quantify import Quantify
from dbx.ops.checks import listed
from dbx.program import log, resolve_seed, run_step
from dbx.tl._class_files import from_path
from dbx.tl._class_tables import ClassTable, from_anndata, from_frame, from_matrix, gene_of, joined, numbers_of, renamed

if TYPE_CHECKING:
    from anndata import AnnData

WRITES = {
    "counts": "X",
    "tpm": "layers/tpm",
    "log_likelihood": "uns/quantify/log_likelihood",
    "iterations": "uns/quantify/iterations",
}
REPEATS = {
    "variance": "layers/variance",
    "relative_variance": "layers/inferential_relative_variance",
    "bootstrap": "uns/quantify/bootstrap",
}


def quantify(
    classes: Any,
    *,
    transcripts: pd.DataFrame | None = None,
    genes: Mapping[str, str] | pd.Series | Sequence[str] | None = None,
    fragment_length: float | np.ndarray | None = None,
    method: Literal["em", "vb"] = "em",
    vb_prior: float = 1e-2,
    max_iter: int = 10_000,
    tol: float = 1e-10,
    acceleration: bool = True,
    n_bootstrap: int = 0,
    min_alpha: float = 1e-8,
    temperature: float = 1.0,
    unroll: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> AnnData:
    """Estimate the number of fragments of each transcript from fragments that are compatible with several.

    The likelihood and the variational posterior are those of salmon (Patro et al., Nature Methods, 2017) and kallisto
    (Bray et al., Nature Biotechnology, 2016): a fragment comes from a transcript with a probability proportional to its
    share of the fragments over its effective length. Groups of transcripts that share no fragment with others are
    solved to the certified maximum by an interior-point method, very large ones by accelerated expectation
    maximisation. :func:`dbx.rerun` quantifies other samples with counts of the same classes in ``obsm["classes"]``,
    found by their names in ``uns["quantify"]["classes"]``, and their effective lengths in
    ``layers["effective_length"]``, or the reference's mean ones. Samples with fragments in other classes are
    quantified by themselves.

    Parameters
    ----------
    classes
        Which transcripts fragments are compatible with, and how many fragments: a table with the column
        ``transcripts`` (names joined by commas or semicolons), ``count`` or a column for each sample, and perhaps
        ``weights`` in the same form; ``eq_classes.txt`` of salmon or the folder that it is in; a folder with
        ``matrix.ec``, ``transcripts.txt`` and a matrix of kallisto; a list of such files or folders; an array or sparse
        matrix of fragments x transcripts; or AnnData of samples x classes with ``varm["compatibility"]``, classes x
        transcripts, and names in ``uns["transcripts"]``.
    transcripts
        Table by name of transcript with the columns ``effective_length``, or ``length``, and perhaps ``gene``. By
        default lengths are those of ``quant.sf`` in a folder of salmon, or of ``abundance`` in one of kallisto.
    genes
        Gene of each transcript: a mapping by name, or genes in the order of the transcripts.
    fragment_length
        Mean length of fragments, or the probability of each length from 0 on, from which effective lengths are
        computed: the expected number of positions, or the length minus the mean plus 1, at least 1.
    method
        ``"em"``: maximum likelihood. ``"vb"``: variational Bayes from there, with fewer false transcripts.
    vb_prior
        Prior counts of each transcript, for ``"vb"``.
    max_iter
        Largest number of passes.
    tol
        Largest distance of the log-likelihood per fragment from its maximum, or for large groups its gain in a pass.
    acceleration
        False for plain passes.
    n_bootstrap
        Number of repeated estimates: of fragments drawn again with replacement, or for ``"vb"`` draws of the
        abundances from their posterior by Gibbs sampling, with at least half a fragment as prior of each transcript.
    min_alpha
        Counts below this are zero.
    temperature
        Exponent 1 / temperature of what fragments are shared by; 1 is exact.
    unroll
        Run this number of plain passes, through which gradients go, instead of converging.
    random_state
        Seed of the repeats.

    Returns
    -------
    AnnData of samples x transcripts, float64, with:

    ``X``
        Expected number of fragments.
    ``layers["tpm"]``
        Transcripts per million: counts over effective length, scaled to a sum of a million.
    ``layers["effective_length"]``
        Effective lengths.
    ``layers["variance"]``, ``layers["inferential_relative_variance"]``
        Variance over repeats; and max(variance - mean, 0) / (mean + 5) + .01.
    ``obsm["classes"]``
        Fragments of each class.
    ``var["gene"]``, ``var["length"]``, ``var["effective_length"]``
        As given or read (a missing gene stays missing); the mean of the samples' effective lengths.
    ``var["identifiability"]``
        Number of the set of transcripts that no class tells apart, -1 for others: only effective lengths decide within
        a set, and between equal ones the split is arbitrary.
    ``uns["quantify"]``
        ``log_likelihood``, natural, of the fragments of each sample; ``iterations``, 0 if it did not converge;
        ``unidentified`` (the sets, names joined by commas); ``classes`` (names of the transcripts of each class, with
        their weights if they have any) and, with repeats, ``bootstrap``, array of shape (n_samples, n_bootstrap,
        n_transcripts), float32.

    Raises
    ------
    KeyError
        A table lacks a column.
    ValueError
        Names are not among the transcripts, counts are negative, effective lengths are missing or not above 0, a class
        is empty or there twice.

    Examples
    --------
    >>> import dbx
    >>> import pandas as pd
    >>> classes = pd.DataFrame({"transcripts": ["a", "a,b", "b,c"], "count": [20, 30, 10]})
    >>> lengths = pd.DataFrame({"effective_length": [900.0, 400.0, 700.0]}, index=["a", "b", "c"])
    >>> tx = dbx.tl.quantify(classes, transcripts=lengths)
    >>> float(tx.X.sum().round(6))
    60.0
    """
    table = class_table(classes, transcripts)
    lengths = _effective_lengths(table, transcripts, fragment_length)
    found, counts = table.compressed(), table.counts()
    _check_counts(counts)
    operator = Quantify(
        classes=found.text(),
        weights=found.weights_text(),
        method=method,
        vb_prior=vb_prior,
        max_iter=max_iter,
        tol=tol,
        acceleration=acceleration,
        n_bootstrap=n_bootstrap,
        min_alpha=min_alpha,
        temperature=temperature,
        unroll=unroll,
    )
    _say_unseen(table, found)
    sets = told_apart(found)
    tx = _empty(table, transcripts, gene_of(table.names, genes, transcripts), lengths, sets)
    tx.obsm["classes"] = counts
    tx.uns["quantify"] = {
        "classes": table.class_names(),
        "unidentified": np.array([",".join(names) for names in _members(sets, table.names)], object),
    }
    run_step(
        tx,
        operator,
        reads={"x": "obsm/classes", "lengths": "layers/effective_length"},
        writes=WRITES | (REPEATS if n_bootstrap else {}),
        names={"x": "uns/quantify/classes"},
        seed=resolve_seed(random_state, None),
    )
    return tx


def class_table(classes: Any, transcripts: pd.DataFrame | None) -> ClassTable:
    """Classes in any of the accepted forms, with the transcripts of the table where there is one."""
    names = None
    if transcripts is not None:
        if not isinstance(transcripts, pd.DataFrame):
            msg = f"transcripts must be a DataFrame by name of transcript; got {type(transcripts).__name__}."
            raise TypeError(msg)
        if not transcripts.index.is_unique:
            msg = f"Names of transcripts are not unique: {listed(transcripts.index[transcripts.index.duplicated()])}."
            raise ValueError(msg)
        names = list(map(str, transcripts.index))
    if isinstance(classes, pd.DataFrame):
        return _with_fragments(from_frame(classes, names))
    if hasattr(classes, "varm"):
        return _with_fragments(from_anndata(classes, names))
    if sparse.issparse(classes) or isinstance(classes, np.ndarray):
        return _with_fragments(from_matrix(classes, names))
    if not isinstance(classes, str | PathLike | list | tuple):
        msg = (
            "classes must be a DataFrame, an AnnData, an array, or a path or list of paths of salmon or kallisto; got "
            f"{type(classes).__name__}."
        )
        raise TypeError(msg)
    paths = [classes] if isinstance(classes, str | PathLike) else list(classes)
    if not paths:
        msg = "classes is an empty list: pass a file or folder for each sample."
        raise ValueError(msg)
    table = joined([from_path(path) for path in paths])
    return _with_fragments(table if names is None else renamed(table, names))


def _with_fragments(table: ClassTable) -> ClassTable:
    if not table.entries:
        msg = "There are no classes with fragments."
        raise ValueError(msg)
    return table


def _effective_lengths(table: ClassTable, transcripts, fragment_length) -> np.ndarray:
    """Effective lengths, an array of shape (n_samples, n_transcripts)."""
    if transcripts is not None and "effective_length" in transcripts and fragment_length is None:
        one = numbers_of(transcripts["effective_length"], "effective lengths")
    elif transcripts is not None and "length" in transcripts and fragment_length is not None:
        one = effective_lengths(numbers_of(transcripts["length"], "lengths"), fragment_length)
    elif all(lengths is not None for lengths in table.effective_lengths):
        return _positive(np.array(table.effective_lengths), table.names)
    else:
        msg = (
            "Effective lengths are missing: pass transcripts, a DataFrame by name of transcript with the column "
            "'effective_length', or with 'length' and fragment_length=the mean length of fragments."
        )
        raise ValueError(msg)
    return _positive(np.tile(one, (len(table.samples), 1)), table.names)


def _positive(lengths: np.ndarray, names: Sequence[str]) -> np.ndarray:
    wrong = ~(np.isfinite(lengths) & (lengths > 0)).all(axis=0)
    if wrong.any():
        msg = f"Effective lengths must be above 0; those of {listed(np.asarray(names)[wrong])} are not."
        raise ValueError(msg)
    return lengths


def _check_counts(counts: sparse.csr_matrix) -> None:
    wrong = counts.data[~(np.isfinite(counts.data) & (counts.data >= 0))]
    if len(wrong):
        msg = f"Counts of classes must be at least 0; got {wrong[0]:g}."
        raise ValueError(msg)


def _say_unseen(table: ClassTable, found) -> None:
    unseen = np.setdiff1d(np.arange(len(table.names)), found.indices)
    if len(unseen):
        log.warn(
            f"{len(unseen)} transcripts are in no class, their counts are 0: {listed(table.names[t] for t in unseen)}."
        )


def _members(sets: np.ndarray, names: list[str]) -> list[list[str]]:
    return [[names[t] for t in np.flatnonzero(sets == number)] for number in range(sets.max(initial=-1) + 1)]


def _empty(table: ClassTable, transcripts, genes, lengths, sets) -> AnnData:
    from anndata import AnnData

    var = pd.DataFrame(index=pd.Index(table.names, dtype=object))
    if genes is not None:
        var["gene"] = genes
    if transcripts is not None and "length" in transcripts:
        var["length"] = transcripts["length"].to_numpy()
    elif table.lengths:
        var["length"] = [table.lengths.get(name, np.nan) for name in table.names]
    var["effective_length"] = lengths.mean(axis=0)
    var["identifiability"] = sets
    tx = AnnData(np.zeros(lengths.shape), obs=pd.DataFrame(index=pd.Index(table.samples, dtype=object)), var=var)
    tx.layers["effective_length"] = lengths
    return tx
