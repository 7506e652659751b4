"""Abundances that salmon and kallisto have estimated."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
import pandas as pd

from dbx.data.quant_formats import CLASSES, ESTIMATES, lengths_in
from dbx.ops.abundance.estimates import per_million
from dbx.ops.abundance.variance import relative_variance
from dbx.ops.checks import check_known, listed
from dbx.tl.quantify import gene_of, quantify

if TYPE_CHECKING:
    from anndata import AnnData

FILES = {"salmon": ("quant.sf",), "kallisto": ESTIMATES}
COLUMNS = {
    "salmon": {"length": "Length", "effective_length": "EffectiveLength", "tpm": "TPM", "counts": "NumReads"},
    "kallisto": {"length": "length", "effective_length": "eff_length", "tpm": "tpm", "counts": "est_counts"},
}
KINDS = ("auto", *FILES)


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
        Folder of a sample with ``quant.sf`` of salmon, or ``abundance.tsv`` or ``abundance.h5`` of kallisto; a list of
        folders, or a dict from names of samples to folders.
    kind
        ``"auto"`` takes the file that is there.
    requantify
        Estimate anew from the equivalence classes in the folders, by :func:`dbx.tl.quantify`.
    genes
        Gene of each transcript: a mapping by name, or genes in the order of the transcripts.

    Returns
    -------
    AnnData with counts in ``X``, ``layers["tpm"]``, ``layers["effective_length"]`` and ``var["length", "gene"]``; where
    every folder has bootstraps (of kallisto in ``abundance.h5``) or Gibbs samples, equally many, also
    ``layers["variance"]``, ``layers["inferential_relative_variance"]`` and ``uns["quantify"]["bootstrap"]``.

    Raises
    ------
    FileNotFoundError
        A folder has no such file.
    ValueError
        Samples have other transcripts, or a file names one twice or lacks a column.

    Examples
    --------
    >>> import dbx
    >>> tx = dbx.read_quant(["a/quant", "b/quant"])  # doctest: +SKIP
    """
    check_known(kind, KINDS, "kind")
    named = dict(paths) if isinstance(paths, Mapping) else _by_folder(paths)
    if not named:
        msg = "paths is empty: pass the folder of each sample."
        raise ValueError(msg)
    if requantify:
        _check_classes(named, kind)
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
    if not isinstance(paths, str | PathLike | list | tuple):
        msg = f"paths must be a folder, a list of folders or a dict of them by sample; got {type(paths).__name__}."
        raise TypeError(msg)
    folders = [Path(path) for path in ([paths] if isinstance(paths, str | PathLike) else paths)]
    names = [path.name for path in folders]
    if len(set(names)) < len(names):
        names = ["/".join(path.parts[-2:]) for path in folders]
    if len(set(names)) < len(names):
        msg = "paths must be folders with names of their own; or pass a dict from names of samples to folders."
        raise ValueError(msg)
    return dict(zip(names, folders, strict=True))


def _check_classes(folders: Mapping[str, str | PathLike[str]], kind: str) -> None:
    """Refuse folders without equivalence classes of the tool that was named."""
    for path in folders.values() if kind != "auto" else ():
        if not any((Path(path) / file).exists() for file in CLASSES[kind]):
            msg = f"{str(path)!r} has no {CLASSES[kind][0]} ({kind}) to quantify from."
            raise FileNotFoundError(msg)


def _sample(name: str, folder: Path, kind: str) -> Sample:
    for tool in FILES if kind == "auto" else (kind,):
        for file in FILES[tool]:
            path = folder if folder.name == file else folder / file
            if path.exists():
                found = _of_kallisto(name, path) if path.suffix == ".h5" else _of_text(name, path, tool)
                return _checked(found, path)
    wanted = " nor ".join(f"{files[0]} ({tool})" for tool, files in FILES.items() if kind in ("auto", tool))
    msg = f"{str(folder)!r} has {'neither ' if kind == 'auto' else 'no '}{wanted}."
    raise FileNotFoundError(msg)


def _of_text(name: str, path: Path, tool: str) -> Sample:
    table = pd.read_csv(path, sep="\t", index_col=0)
    columns = {column: own for own, column in COLUMNS[tool].items()}
    lacking = [column for column in columns if column not in table]
    if lacking:
        msg = f"{str(path)!r} lacks the columns {listed(lacking)} of {tool}; it has {listed(table)}."
        raise ValueError(msg)
    table = table.rename(columns=columns)[list(COLUMNS[tool])]
    if tool == "salmon":
        return Sample(name, table, _repeats(path.parent, table.index))
    beside = path.parent / "abundance.h5"
    other = _checked(_of_kallisto(name, beside), beside) if beside.exists() else None
    if other is None or other.repeats is None:
        return Sample(name, table, None)
    return Sample(name, table, other.repeats[:, _places(other.table.index, table.index, beside)])


def _of_kallisto(name: str, path: Path) -> Sample:
    """``abundance.h5``: names, lengths and counts, and bootstraps, if there are any."""
    import h5py

    lengths = lengths_in(path).rename(columns={"eff_length": "effective_length"})
    with h5py.File(path) as file:
        counts = file["est_counts"][:].astype(np.float64)
        bootstraps = file.get("bootstrap", {})
        draws = [bootstraps[f"bs{i}"][:] for i in range(len(bootstraps))]
    table = lengths.assign(tpm=per_million(counts, lengths["effective_length"].to_numpy()), counts=counts)
    return Sample(name, table, np.array(draws, np.float64) if draws else None)


def _checked(sample: Sample, path: Path) -> Sample:
    twice = sample.table.index[sample.table.index.duplicated()]
    if len(twice):
        msg = f"{str(path)!r} names transcripts twice: {listed(twice)}."
        raise ValueError(msg)
    return sample


def _places(names: pd.Index, wanted: pd.Index, path: Path) -> np.ndarray:
    """Where the wanted transcripts are among those of repeats."""
    at = names.get_indexer(wanted)
    if (at < 0).any():
        msg = f"{str(path)!r} has no repeats of {listed(wanted[at < 0])}: it is of another run than the abundances."
        raise ValueError(msg)
    return at


def _repeats(folder: Path, names: pd.Index) -> np.ndarray | None:
    """Bootstraps or Gibbs samples of salmon, an array of shape (n_repeats, n_transcripts)."""
    path = folder / "aux_info" / "bootstrap"
    if not (path / "bootstraps.gz").exists():
        return None
    with gzip.open(path / "bootstraps.gz") as file:
        values = np.frombuffer(file.read(), "<f8").reshape(-1, len(names))
    with gzip.open(path / "names.tsv.gz", "rt") as file:
        order = pd.Index(file.read().split())
    return values[:, _places(order, names, path)]


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
    if None not in sizes and len(sizes) == 1 and sizes != {1}:
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
