"""Abundances that salmon and kallisto have estimated."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd

from dbx.ops.abundance.variance import relative_variance
from dbx.tl.quantify import gene_of, quantify

if TYPE_CHECKING:
    from anndata import AnnData

FILES = {"salmon": ("quant.sf",), "kallisto": ("abundance.tsv", "abundance.tsv.gz")}
COLUMNS = {
    "salmon": {"length": "Length", "effective_length": "EffectiveLength", "tpm": "TPM", "counts": "NumReads"},
    "kallisto": {"length": "length", "effective_length": "eff_length", "tpm": "tpm", "counts": "est_counts"},
}


class Sample(NamedTuple):
    """Table of the transcripts of a sample, and repeats, if there are any."""

    name: str
    table: pd.DataFrame
    repeats: np.ndarray | None


def read_quant(
    paths: str | PathLike[str] | Sequence[str | PathLike[str]] | Mapping[str, str | PathLike[str]],
    *,
    kind: Literal["auto", "salmon", "kallisto"] = "auto",
    requantify: bool = False,
    genes: Mapping[str, str] | pd.Series | Sequence[str] | None = None,
) -> AnnData:
    """Read what salmon or kallisto have estimated, as samples x transcripts.

    Parameters
    ----------
    paths
        Folder of a sample with ``quant.sf`` of salmon or ``abundance.tsv`` of kallisto, a list of folders, or a dict
        from names of samples to folders.
    kind
        ``"auto"`` takes the file that is there.
    requantify
        Estimate anew from the equivalence classes in the folders, by :func:`dbx.tl.quantify`.
    genes
        Gene of each transcript: a mapping by name, or genes in the order of the transcripts.

    Returns
    -------
    AnnData with counts in ``X``, ``layers["tpm"]``, ``layers["effective_length"]`` and ``var["length", "gene"]``; where
    every folder of salmon has bootstraps or Gibbs samples, also ``layers["variance"]``,
    ``layers["inferential_relative_variance"]`` and ``uns["quantify"]["bootstrap"]``.

    Raises
    ------
    FileNotFoundError
        A folder has no such file.
    ValueError
        Samples have other transcripts.

    Examples
    --------
    >>> import dbx
    >>> tx = dbx.read_quant(["a/quant", "b/quant"])  # doctest: +SKIP
    """
    named = dict(paths) if isinstance(paths, Mapping) else _by_folder(paths)
    if requantify:
        tx = quantify(list(named.values()), genes=genes)
        tx.obs_names = list(named)
        return tx
    samples = [_sample(name, Path(path), kind) for name, path in named.items()]
    first = samples[0].table
    for sample in samples[1:]:
        if set(sample.table.index) != set(first.index):
            msg = (
                f"Samples {samples[0].name!r} and {sample.name!r} have other transcripts: quantify them with one index."
            )
            raise ValueError(msg)
    return _as_anndata(samples, genes)


def _by_folder(paths) -> dict[str, Path]:
    listed = [Path(path) for path in ([paths] if isinstance(paths, str | PathLike) else paths)]
    names = [path.name for path in listed]
    if len(set(names)) < len(names):
        names = ["/".join(path.parts[-2:]) for path in listed]
    if not listed or len(set(names)) < len(names):
        msg = "paths must be folders with names of their own; or pass a dict from names of samples to folders."
        raise ValueError(msg)
    return dict(zip(names, listed, strict=True))


def _sample(name: str, folder: Path, kind: str) -> Sample:
    for tool in FILES if kind == "auto" else (kind,):
        for file in FILES[tool]:
            path = folder if folder.name == file else folder / file
            if path.exists():
                table = pd.read_csv(path, sep="\t", index_col=0)
                columns = {column: own for own, column in COLUMNS[tool].items()}
                repeats = _repeats(path.parent, table.index) if tool == "salmon" else None
                return Sample(name, table.rename(columns=columns)[list(COLUMNS[tool])], repeats)
    msg = f"{str(folder)!r} has neither quant.sf (salmon) nor abundance.tsv (kallisto)."
    raise FileNotFoundError(msg)


def _repeats(folder: Path, names: pd.Index) -> np.ndarray | None:
    """Bootstraps or Gibbs samples of salmon, an array of shape (n_repeats, n_transcripts)."""
    path = folder / "aux_info" / "bootstrap"
    if not (path / "bootstraps.gz").exists():
        return None
    with gzip.open(path / "bootstraps.gz") as file:
        values = np.frombuffer(file.read(), "<f8").reshape(-1, len(names))
    with gzip.open(path / "names.tsv.gz", "rt") as file:
        order = pd.Index(file.read().split())
    return values[:, order.get_indexer(names)]


def _as_anndata(samples: Sequence[Sample], genes) -> AnnData:
    from anndata import AnnData

    names = samples[0].table.index.astype(str)
    tables = [sample.table.reindex(samples[0].table.index) for sample in samples]
    stacked = {column: np.stack([table[column].to_numpy(np.float64) for table in tables]) for column in tables[0]}
    var = pd.DataFrame({"length": stacked["length"].mean(axis=0)}, index=pd.Index(names, dtype=object))
    gene = gene_of(list(names), genes, None)
    if gene is not None:
        var["gene"] = gene
    var["effective_length"] = stacked["effective_length"].mean(axis=0)
    tx = AnnData(stacked["counts"], obs=pd.DataFrame(index=[sample.name for sample in samples]), var=var)
    tx.layers["tpm"], tx.layers["effective_length"] = stacked["tpm"], stacked["effective_length"]
    sizes = {None if sample.repeats is None else len(sample.repeats) for sample in samples}
    if None not in sizes and len(sizes) == 1:
        aligned = [
            sample.repeats[:, sample.table.index.get_indexer(samples[0].table.index)]
            for sample in samples
            if sample.repeats is not None
        ]
        draws = np.stack(aligned)
        tx.layers["variance"] = draws.var(axis=1, ddof=1)
        tx.layers["inferential_relative_variance"] = relative_variance(draws)
        tx.uns["quantify"] = {"bootstrap": draws.astype(np.float32)}
    return tx
