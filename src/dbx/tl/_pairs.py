"""Ligand-receptor pairs of a resource as the column numbers of their genes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from dbx.datasets.cellphonedb import cellphonedb
from dbx.ops.checks import listed
from dbx.program import log

NAMES = (("ligand", "receptor"), ("ligand_mouse", "receptor_mouse"))
"""Columns of a resource with gene names: its own, and those of mouse orthologues."""
SYNONYMS = (
    ("ligand", "receptor"),
    ("ligand_complex", "receptor_complex"),
    ("source_genesymbol", "target_genesymbol"),
    ("source", "target"),
)
"""Names of the two columns in resources of liana, OmniPath and squidpy."""
FILE = re.compile(r"\.(csv|tsv|txt)(\.gz)?$", re.IGNORECASE)
"""Endings of the names of files with a resource."""
FEW = 0.1
"""Share of a resource's genes that are found, below which the names are doubtful."""


@dataclass(frozen=True)
class Pairs:
    """Pairs whose genes are all there; the subunits of a complex are several columns."""

    ligands: tuple[str, ...]
    receptors: tuple[str, ...]
    ligand_columns: tuple[tuple[int, ...], ...]
    receptor_columns: tuple[tuple[int, ...], ...]

    def __len__(self) -> int:
        return len(self.ligands)

    @property
    def columns(self) -> np.ndarray:
        """Numbers of all genes of the pairs, ascending."""
        return np.unique([i for side in (self.ligand_columns, self.receptor_columns) for of in side for i in of])

    def among(self, columns: np.ndarray) -> Pairs:
        """The same pairs, where only these columns are read, ascending."""

        def new(side):
            return tuple(tuple(np.searchsorted(columns, of).tolist()) for of in side)

        return replace(self, ligand_columns=new(self.ligand_columns), receptor_columns=new(self.receptor_columns))


def pairs_among(
    resource: str | Path | pd.DataFrame, genes: pd.Index, *, complex_policy: Literal["min", "all"] = "min"
) -> Pairs:
    """The pairs of a resource whose genes are all among ``genes``, by names as they are.

    Parameters
    ----------
    resource
        ``"cellphonedb"``, or a DataFrame, or a CSV or TSV file, with the columns ``ligand`` and ``receptor``, the
        subunits of a complex joined by ``"_"``; with ``ligand_mouse`` and ``receptor_mouse`` these names are used where
        more of them are found.
    genes
        Names of the genes of the data, unique.
    complex_policy
        ``"min"`` keeps complexes, ``"all"`` makes a pair of each two subunits.

    Raises
    ------
    ValueError
        The resource is unknown or lacks the columns, or none of its pairs is there.
    FileNotFoundError
        There is no such file.
    TypeError
        It is neither a name, a file nor a DataFrame.
    """
    if complex_policy not in ("min", "all"):
        msg = f'complex_policy must be "min" or "all"; got {complex_policy!r}.'
        raise ValueError(msg)
    table = _table(resource)
    number = {str(gene): i for i, gene in enumerate(genes)}
    species, share = _species(table, number)
    ligand, receptor = NAMES[species]
    pairs = dict.fromkeys((a, b) for a, b in zip(table[ligand], table[receptor], strict=True) if a and b)
    found = [(a, b) for a, b in pairs if _all_there(a, number) and _all_there(b, number)]
    _report(table, genes, species, share, len(found))
    if complex_policy == "all":
        single = ((a, b) for one, other in found for a in _subunits(one, number) for b in _subunits(other, number))
        found = list(dict.fromkeys(single))
    ligands, receptors = zip(*found, strict=True)
    columns = [
        tuple(tuple(number[g] for g in dict.fromkeys(_subunits(name, number))) for name in side)
        for side in (ligands, receptors)
    ]
    return Pairs(ligands, receptors, *columns)


def _table(resource: str | Path | pd.DataFrame) -> pd.DataFrame:
    if isinstance(resource, Path) or (isinstance(resource, str) and FILE.search(resource)):
        return _table(_read(Path(resource)))
    if isinstance(resource, str):
        return _named(resource)
    if not isinstance(resource, pd.DataFrame):
        msg = (
            'resource must be "cellphonedb", or a DataFrame or file with the columns ligand and receptor; got '
            f"{type(resource).__name__}."
        )
        raise TypeError(msg)
    columns = next((names for names in SYNONYMS if set(names) <= set(resource.columns)), None)
    if columns is None:
        msg = (
            "The resource must have the columns 'ligand' and 'receptor'; it has "
            f"{listed(resource.columns) or 'none'}: rename them, resource.rename(columns={{...: 'ligand', ...}})."
        )
        raise ValueError(msg)
    renamed = dict(zip(columns, NAMES[0], strict=True))
    kept = [*columns, *(name for name in NAMES[1] if set(NAMES[1]) <= set(resource.columns))]
    return resource[kept].rename(columns=renamed).fillna("").astype(str)


def _read(path: Path) -> pd.DataFrame:
    """The table in a file, whose separator its name tells."""
    if not path.is_file():
        msg = f"resource: there is no file {str(path)!r}."
        raise FileNotFoundError(msg)
    return pd.read_csv(path, sep="," if ".csv" in path.name.lower() else "\t", dtype=str)


def _named(resource: str) -> pd.DataFrame:
    if resource == "cellphonedb":
        return cellphonedb()
    if resource == "consensus":
        msg = (
            "The consensus of OmniPath is not part of dbx, as the licences of some of its sources do not allow it: "
            'pass a DataFrame, such as resource=liana.rs.select_resource("consensus"), a file of your own with the '
            'columns ligand and receptor, resource="consensus.csv", or resource="cellphonedb".'
        )
        raise ValueError(msg)
    msg = (
        'resource must be "cellphonedb", or a DataFrame or CSV or TSV file with the columns ligand and receptor; got '
        f"{resource!r}."
    )
    raise ValueError(msg)


def _subunits(name: str, number: dict[str, int]) -> list[str]:
    """The genes of a complex; a gene whose own name contains an underscore is one."""
    return [name] if name in number else name.split("_")


def _all_there(name: str, number: dict[str, int]) -> bool:
    return all(gene in number for gene in _subunits(name, number))


def _genes(table: pd.DataFrame, columns: tuple[str, str], number: dict[str, int]) -> list[str]:
    names = dict.fromkeys(name for column in columns for name in table[column] if name)
    return list(dict.fromkeys(gene for name in names for gene in _subunits(name, number)))


def _species(table: pd.DataFrame, number: dict[str, int]) -> tuple[int, float]:
    """(which columns of names fit the genes best, the share of their genes that is found)."""
    shares = []
    for columns in NAMES:
        genes = _genes(table, columns, number) if set(columns) <= set(table.columns) else []
        shares.append(sum(gene in number for gene in genes) / max(len(genes), 1))
    best = int(np.argmax(shares))
    return best, shares[best]


def _report(table: pd.DataFrame, genes: pd.Index, species: int, share: float, n_found: int) -> None:
    """Say what was found: an error for no pair, a warning for few genes."""
    if share >= FEW and n_found:
        log.info(f"{n_found} of {len(table)} pairs have all their genes{' (mouse orthologues)' * species}.")
        return
    here = _genes(table, NAMES[species], {})
    lower = {str(gene).lower() for gene in genes}
    by_case = sum(gene.lower() in lower for gene in here) / max(len(here), 1)
    if by_case > share + FEW:
        why = (
            f"With upper and lower case alike it would be {by_case:.0%}: are these genes of another species? Rename "
            "them, or pass a resource with orthologues in the columns ligand_mouse and receptor_mouse."
        )
    else:
        why = "Names must be those of adata.var_names, such as gene symbols, and of the same species."
    some = f"the data have {listed(genes[:3]) or 'no gene'}, the resource {listed(here[:3]) or 'none'}"
    msg = f"{share:.0%} of the resource's genes and {n_found} of its pairs are among the genes ({some}). {why}"
    if not n_found:
        raise ValueError(msg)
    log.warn(msg)
