"""Abundances of genes from those of their transcripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from dbx.ops.abundance.gene_summary import SummarizeToGene, by_gene
from dbx.ops.abundance.variance import relative_variance
from dbx.ops.checks import UnknownNameError, listed
from dbx.program import log, run_step

if TYPE_CHECKING:
    from anndata import AnnData

LAYERS = {"tpm": "tpm", "lengths": "effective_length"}


def summarize_to_gene(
    tx: AnnData,
    *,
    key: str = "gene",
    counts_from_abundance: Literal["scaled_tpm", "length_scaled_tpm"] | None = None,
) -> AnnData:
    """Sum abundances of transcripts over genes, as tximport does (Soneson et al., F1000Research, 2015).

    Parameters
    ----------
    tx
        Samples x transcripts of :func:`dbx.tl.quantify` or :func:`dbx.read_quant`.
    key
        Column of ``var`` with the gene of each transcript.
    counts_from_abundance
        ``"scaled_tpm"``: counts are transcripts per million scaled to the sample's number of fragments.
        ``"length_scaled_tpm"``: multiplied with the mean length of the gene over samples before, so that changes of
        isoforms do not change counts. By default counts are summed; then pass lengths of genes on as an offset.

    Returns
    -------
    AnnData of samples x genes, with counts in ``X``, ``layers["tpm"]``, ``layers["effective_length"]`` (mean over
    transcripts, weighted by abundance), and where ``tx`` has repeats and counts are summed, ``layers["variance"]`` and
    ``layers["inferential_relative_variance"]``. ``obsm`` holds the values of transcripts that this was computed from,
    and ``uns["summarize_to_gene"]["transcripts"]`` their names.

    Raises
    ------
    KeyError
        ``tx`` lacks the column or a layer.
    ValueError
        A transcript has no gene.

    Examples
    --------
    >>> import dbx
    >>> import pandas as pd
    >>> classes = pd.DataFrame({"transcripts": ["a", "a,b", "b,c"], "count": [20, 30, 10]})
    >>> lengths = pd.DataFrame({"effective_length": [900.0, 400.0, 700.0], "gene": ["x", "x", "y"]}, index=[*"abc"])
    >>> genes = dbx.tl.summarize_to_gene(dbx.tl.quantify(classes, transcripts=lengths))
    >>> list(genes.var_names)
    ['x', 'y']
    """
    from anndata import AnnData

    if tx.n_obs == 0 or tx.n_vars == 0:
        msg = f"tx is empty: {tx.n_obs} samples x {tx.n_vars} transcripts."
        raise ValueError(msg)
    if key not in tx.var:
        msg = f"tx.var has no column {key!r} with the gene of each transcript; it has {listed(tx.var) or 'none'}."
        raise UnknownNameError(msg)
    lacking = [layer for layer in LAYERS.values() if layer not in tx.layers]
    if lacking:
        msg = f"tx.layers lacks {listed(lacking)}: make it with dbx.tl.quantify(...) or dbx.read_quant(...)."
        raise UnknownNameError(msg)
    genes = tx.var[key]
    missing = genes.isna().to_numpy()
    if missing.any():
        msg = (
            f"{missing.sum()} transcripts have no gene: {listed(tx.var_names[missing])}. Give them one, or remove them."
        )
        raise ValueError(msg)
    codes, names = pd.factorize(genes.astype(str))
    found = AnnData(np.zeros((tx.n_obs, len(names))), obs=tx.obs.copy(), var=pd.DataFrame(index=pd.Index(names)))
    given = {"counts": tx.X, **{name: tx.layers[layer] for name, layer in LAYERS.items()}}
    for name, value in given.items():
        found.obsm[f"transcript_{name}"] = np.asarray(value, np.float64)
    found.uns["summarize_to_gene"] = {"transcripts": np.array(list(map(str, tx.var_names)), object)}
    run_step(
        found,
        SummarizeToGene(genes=tuple(codes.tolist()), counts_from_abundance=counts_from_abundance),
        reads={name: f"obsm/transcript_{name}" for name in given},
        names=dict.fromkeys(given, "uns/summarize_to_gene/transcripts"),
        writes={"gene_counts": "X", "gene_tpm": "layers/tpm", "gene_lengths": "layers/effective_length"},
    )
    repeats = tx.uns.get("quantify", {}).get("bootstrap")
    if repeats is not None and (len(repeats), np.shape(repeats)[-1]) != tx.shape:
        log.warn(
            f"tx.uns['quantify']['bootstrap'] has repeats of {len(repeats)} samples and {np.shape(repeats)[-1]} "
            f"transcripts, but tx is {tx.n_obs} x {tx.n_vars}: genes have no variance."
        )
    elif repeats is not None and counts_from_abundance is None:
        draws = by_gene(np.asarray(repeats, np.float64), codes)
        found.layers["variance"] = draws.var(axis=1, ddof=1)
        found.layers["inferential_relative_variance"] = relative_variance(draws)
    return found
