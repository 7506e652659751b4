"""Equivalence classes in the files of salmon and kallisto."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from dbx.data.quant_formats import CLASSES, ESTIMATES, lengths_in
from dbx.tl._class_tables import ClassTable


def opened(path: Path) -> Iterator[str]:
    """Lines of a text file, perhaps compressed."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for line in file:
            yield line.rstrip("\n")


def from_path(path: str | PathLike[str]) -> ClassTable:
    """Classes of a salmon file or folder, or of a folder of kallisto's."""
    path = Path(path)
    if not path.exists():
        msg = f"There is no file or folder {str(path)!r}."
        raise FileNotFoundError(msg)
    if path.is_file():
        return from_salmon(path, None)
    for name in CLASSES["salmon"]:
        if (path / name).exists():
            return from_salmon(path / name, path)
    if (path / "matrix.ec").exists():
        return from_kallisto(path)
    msg = (
        f"{str(path)!r} has neither aux_info/eq_classes.txt.gz (salmon quant --dumpEq) nor matrix.ec, transcripts.txt "
        "and a .mtx file (kallisto)."
    )
    raise FileNotFoundError(msg)


def from_salmon(path: Path, folder: Path | None) -> ClassTable:
    """Two counts, names of transcripts, then ``k t1 .. tk [w1 .. wk] count`` of each class."""
    lines = opened(path)
    n_transcripts, n_classes = int(next(lines)), int(next(lines))
    names = [next(lines).strip() for _ in range(n_transcripts)]
    sample = (folder or path).name.removesuffix(".gz").removesuffix(".txt")
    table = ClassTable(names, [sample], effective_lengths=[None])
    for _ in range(n_classes):
        fields = next(lines).split()
        k = int(fields[0])
        if len(fields) not in (k + 2, 2 * k + 2):
            msg = f"A class of {k} transcripts in {path.name} must have {k + 2} or {2 * k + 2} numbers: {fields}."
            raise ValueError(msg)
        weights = list(map(float, fields[k + 1 : -1]))
        number = table.number(list(map(int, fields[1 : k + 1])), weights)
        table.entries.append((0, number, float(fields[-1])))
    if folder is not None and (folder / "quant.sf").exists():
        _take_lengths(table, pd.read_csv(folder / "quant.sf", sep="\t", index_col=0), "Length", "EffectiveLength")
    return table


def from_kallisto(folder: Path) -> ClassTable:
    """``matrix.ec``: number and transcripts of each class; a matrix of samples or cells by classes."""
    from scipy import io

    names = [line.split("\t")[0] for line in opened(folder / "transcripts.txt") if line]
    matrices = sorted(folder.glob("*.mtx"))
    if len(matrices) != 1:
        msg = f"{str(folder)!r} must have one .mtx file; it has {len(matrices)}."
        raise FileNotFoundError(msg)
    with warnings.catch_warnings():  # of the kind of matrix, which is the same to what follows
        warnings.simplefilter("ignore", DeprecationWarning)
        counts = io.mmread(matrices[0]).tocoo()
    members = dict(line.split("\t") for line in opened(folder / "matrix.ec") if line)
    barcodes = sorted(folder.glob("*barcodes*.txt")) + sorted(folder.glob("matrix.cells"))
    samples = [line for line in opened(barcodes[0]) if line] if barcodes else []
    if len(samples) != counts.shape[0]:
        samples = [folder.name] if counts.shape[0] == 1 else [f"{folder.name}-{i}" for i in range(counts.shape[0])]
    table = ClassTable(names, samples, effective_lengths=[None] * len(samples))
    numbers = {c: table.number(list(map(int, members[str(c)].split(",")))) for c in np.unique(counts.col).tolist()}
    triples = zip(counts.row.tolist(), counts.col.tolist(), counts.data.tolist(), strict=True)
    table.entries = [(sample, numbers[c], float(count)) for sample, c, count in triples]
    estimates = next((folder / name for name in ESTIMATES if (folder / name).exists()), None)
    if estimates is not None and len(samples) == 1:
        found = pd.read_csv(estimates, sep="\t", index_col=0) if estimates.suffix != ".h5" else lengths_in(estimates)
        _take_lengths(table, found, "length", "eff_length")
    return table


def _take_lengths(table: ClassTable, found: pd.DataFrame, length: str, effective: str) -> None:
    """Lengths and effective lengths of the one sample of a table of classes."""
    table.effective_lengths = [found[effective].reindex(table.names).to_numpy(np.float64)]
    table.lengths = found[length].astype(np.float64).to_dict()
