"""Sequences from FASTA files."""

from __future__ import annotations

import gzip
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from dbx.ops.checks import listed

if TYPE_CHECKING:
    from anndata import AnnData


def read_fasta(
    path: str | PathLike[str], *, labels: Mapping[str, str] | pd.Series | Sequence[str] | None = None
) -> AnnData:
    r"""Read sequences of a FASTA file, one row for each record.

    Parameters
    ----------
    path
        The file, also compressed (``.gz``).
    labels
        Class of each sequence: a mapping or Series by name, or classes in the order of the records. Names that a
        mapping lacks have none.

    Returns
    -------
    AnnData without genes: ``obs["sequence"]``, ``obs["description"]`` (what follows the name) and, with ``labels``,
    ``obs["label"]``, categorical.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        It is no FASTA file, two records have one name, a record has no sequence, or there are not as many labels as
        records.

    Examples
    --------
    >>> import dbx
    >>> from pathlib import Path
    >>> _ = Path("two.fa").write_text(">a first\\nACGT\\nAC\\n>b\\nGGT\\n")
    >>> dbx.read_fasta("two.fa", labels={"a": "yes"}).obs["sequence"].tolist()
    ['ACGTAC', 'GGT']
    """
    import anndata as ad

    names, descriptions, sequences = _records(Path(path))
    repeated = pd.Index(names)[pd.Index(names).duplicated()].unique()
    if len(repeated):
        msg = f"{path} has several records named {listed(repeated)}: give each its own name."
        raise ValueError(msg)
    empty = [name for name, text in zip(names, sequences, strict=True) if not text]
    if empty:
        msg = f"{path} has no sequence for {listed(empty)}."
        raise ValueError(msg)
    obs = pd.DataFrame({"sequence": sequences, "description": descriptions}, index=pd.Index(names, dtype=object))
    if labels is not None:
        obs["label"] = pd.Categorical(_labels(labels, names, path))
    return ad.AnnData(obs=obs)


def _records(path: Path) -> tuple[list[str], list[str], list[str]]:
    names: list[str] = []
    descriptions: list[str] = []
    parts: list[list[str]] = []
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        for number, line in enumerate(file, 1):
            text = line.strip()
            if text.startswith(">"):
                name, _, description = text[1:].strip().partition(" ")
                names.append(name)
                descriptions.append(description.strip())
                parts.append([])
            elif text and not text.startswith(";"):
                if not names:
                    msg = f"{path} is no FASTA file: line {number} comes before the first record, a line such as >name."
                    raise ValueError(msg)
                parts[-1].append(text)
    if not names:
        msg = f"{path} has no record, a line such as >name followed by its sequence."
        raise ValueError(msg)
    return names, descriptions, ["".join(lines) for lines in parts]


def _labels(labels, names: list[str], path) -> list:
    if isinstance(labels, Mapping | pd.Series):
        return [labels.get(name) for name in names]
    if isinstance(labels, str) or len(labels) != len(names):
        msg = f"labels must be a mapping by name, or as many as {path} has records, {len(names)}."
        raise ValueError(msg)
    return list(labels)
