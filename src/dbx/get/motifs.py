"""Motifs that a network on sequences has learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from dbx.get.sequence_networks import trained
from dbx.ops.checks import check_whole

if TYPE_CHECKING:
    from anndata import AnnData


def motifs(adata: AnnData, n: int = 10, *, key: str = "X_sequence") -> pd.DataFrame:
    """The filters of a CNN of :func:`dbx.tl.sequence_embedding` as position weight matrices.

    A filter's matrix is the mean of the words at which it is at least half as active as it ever is (Kelley et al.,
    Genome Research, 2016), in the sequences of ``adata``.

    Parameters
    ----------
    adata
        Data with the sequences and the trained network.
    n
        Number of motifs, those with most information; fewer where filters find less than 10 sites.
    key
        The ``key_added`` of the call.

    Returns
    -------
    Table with one row for each position of each motif: ``motif`` (1 has most information), ``filter``, ``position``,
    probabilities of the bases, ``information`` of the motif in bits, relative to the bases of all sequences, and
    ``n_sites``.

    Raises
    ------
    SlotError
        There is no such embedding.
    ValueError
        It is not of a CNN.

    Examples
    --------
    >>> import anndata as ad
    >>> import numpy as np
    >>> import dbx
    >>> bases = np.array(list("ACGT"))[np.random.default_rng(0).integers(0, 4, (100, 20))]
    >>> sites = ad.AnnData(obs={"sequence": ["".join(row) for row in bases]})
    >>> dbx.tl.sequence_embedding(sites, pretrain_epochs=1)
    >>> list(dbx.get.motifs(sites, 2).columns)
    ['motif', 'filter', 'position', 'A', 'C', 'G', 'T', 'information', 'n_sites']
    """
    from dbx.ops.sequence.embedding import SequenceEmbedding
    from dbx.ops.sequence.motifs import motifs as of_filters

    check_whole(n, 1, "n")
    operator, values = trained(adata, key)
    if not isinstance(operator, SequenceEmbedding):
        msg = f"obsm[{key!r}] is of a transformer, which has no filters: use method='cnn'."
        raise ValueError(msg)
    bases = list("ACGT" if operator.alphabet == "DNA" else "ACGU")
    tables = []
    for rank, motif in enumerate(of_filters(operator, values)[:n], 1):
        table = pd.DataFrame(motif.probabilities, columns=bases)
        table.insert(0, "position", np.arange(len(table)))
        table.insert(0, "filter", motif.number)
        table.insert(0, "motif", rank)
        table["information"], table["n_sites"] = motif.information, motif.n_sites
        tables.append(table)
    columns = ["motif", "filter", "position", *bases, "information", "n_sites"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
