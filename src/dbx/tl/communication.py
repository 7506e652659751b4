"""Communication between cells in tissue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.ops.signalling.communication import Communication
from dbx.ops.signalling.link_tables import CALLED
from dbx.program import (
    Slot,
    check_key,
    exists,
    log,
    matrix_slot,
    read,
    refuse_counts,
    refuse_negative,
    resolve_seed,
    run_step,
    unique_gene_names,
)
from dbx.program.compat import own_copy
from dbx.tl._control_genes import present_genes
from dbx.tl._groups import check_groups
from dbx.tl._pairs import Pairs, pairs_among

if TYPE_CHECKING:
    from pathlib import Path

    from anndata import AnnData
    from mudata import MuData

MIN_CELLS = 5
"""Least cells of a group: fewer have no mean of receptors worth the name, nor permutations."""


def communication(
    adata: AnnData | MuData,
    groupby: str,
    *,
    resource: str | Path | pd.DataFrame,
    spatial_key: str = "spatial",
    radius: float | None = None,
    n_neighs: int | None = None,
    targets: Sequence[str] | None = None,
    layer: str | None = None,
    batch_key: str | None = None,
    max_epochs: int = 100,
    heads: int = 2,
    n_perms: int = 20,
    holdout: float = 0.2,
    key_added: str = "communication",
    random_state: Any = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Find the genes of cells that respond to ligands of their neighbours in tissue.

    A cell's target genes are predicted from its group, its receptors and the groups of its neighbours, and from the
    signals it receives: for each ligand, the mean over neighbours weighted by attention (GATv2; Brody, Alon and Yahav,
    ICLR 2022) to their groups and distances, times the cell's receptors, saturating. The network starts without any
    effect of neighbours and is trained up to the best epoch for blocks of tissue that are held out.

    A link is a coefficient of this regression, solved exactly. Its p-value is the share of links as strong among those
    of ``n_perms`` data in which ligands are moved to elsewhere in the tissue: each cell gets the quantile, within its
    group, that the ligand has in a distant cell's group, so that amounts of groups and the likeness of neighbours
    remain. Ligands and targets may both vary over tissue for another reason, such as a gradient: the tested regression
    has smooth functions of position, as many as targets need by Akaike's criterion. A reason that varies over distances
    as short as those of signals may still be taken for a response. Groups of neighbours are part of it, too, so that a
    ligand counts for what it adds to them: one that is the same in all cells of its group cannot be distinguished from
    the group. If nothing is found, a warning says so.

    100,000 cells with 20 pairs and 110 targets took 53 processor seconds (15 epochs) and 0.9 GB beside the data.

    Parameters
    ----------
    adata
        Annotated data with logarithmised counts and positions of cells.
    groupby
        Column of ``obs`` with the group of each cell, such as its type.
    resource
        ``"cellphonedb"``, or a DataFrame, or a CSV or TSV file, with the columns ``ligand`` and ``receptor``, the
        subunits of a complex joined by ``"_"``. Pairs with a gene that is missing are left out.
    spatial_key
        Entry of ``obsm`` with positions.
    radius
        Largest distance of a neighbour, in units of the positions.
    n_neighs
        Number of nearest cells that are neighbours, up to the radius if both are given; 10 by default without a radius,
        however far they are: of cells that are far from all others a warning says how many there are.
    targets
        Names of the genes that may respond; by default those that are in no pair, of the highly variable ones if
        ``var["highly_variable"]`` exists.
    layer
        Layer to use instead of ``X``.
    batch_key
        Column of ``obs`` with the slice of each cell; neighbours are of the same slice. For :func:`dbx.rerun` slices
        that are not in the reference are one: pass new slices one at a time.
    max_epochs
        Maximum number of passes over the cells.
    heads
        Heads of the attention.
    n_perms
        Number of moves of the ligands. Links of all moves together are the null distribution.
    holdout
        Fraction of cells in blocks that are held out.
    key_added
        Key in ``uns``, and with ``X_`` before it in ``obsm``.
    random_state
        Seed of the blocks, the network and the moves.
    copy
        Return a copy instead of writing into ``adata``.
    mod
        Modality of a MuData to work on.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``uns[key_added]["links"]``
        DataFrame with ``ligand``, ``target``, ``score`` (absolute mean gradient of the target in the ligand, divided by
        its standard error), ``pvalue``, ``padj`` (Benjamini-Hochberg), ``sign``, and ``gradient`` (mean change of the
        target by that of the ligand in all neighbours, both logarithms), the strongest first.
    ``uns[key_added]["groups"]``
        DataFrame with ``source``, ``target`` and ``strength``: the effect of what cells of one group send on those of
        another, in standard deviations summed over the links with ``padj < 0.05``.
    ``uns[key_added]["gain"]``
        DataFrame with ``target``, ``gain`` (R2 in held-out blocks added by signals) and ``baseline_r2``. A gradient
        that ligand and target share adds to it, without a link.
    ``uns[key_added]["history"]``
        Squared error of training and held-out cells in each epoch; ``kept``, the epoch whose network is used, 0 where
        none predicted the held-out cells better than before training.
    ``obsm["X_<key_added>"]``
        Signals that cells receive, between 0 and 1, array of shape (n_cells, n_ligands).
    ``uns[key_added]["ligands"]``
        Names of its columns.

    Raises
    ------
    KeyError
        There is no such column, layer or position.
    ValueError
        No pair of the resource is there; there are too few cells, groups or varying targets; positions are missing or
        all the same; no cell has a neighbour; the values are not logarithmised.

    Examples
    --------
    A null data set: cells at random positions know nothing of each other, and no link may be called.

    >>> import dbx, numpy as np, pandas as pd
    >>> adata = dbx.datasets.simulate(200, 30, 2, 1, seed=0)
    >>> adata.obsm["spatial"] = np.random.default_rng(0).uniform(size=(200, 2))
    >>> dbx.pp.log1p(adata)
    >>> pairs = pd.DataFrame({"ligand": adata.var_names[:3], "receptor": adata.var_names[3:6]})
    >>> dbx.tl.communication(adata, "group", resource=pairs, max_epochs=2)
    >>> adata.obsm["X_communication"].shape
    (200, 3)
    >>> int((adata.uns["communication"]["links"]["padj"] < 0.05).sum())
    0
    >>> bool(adata.uns["communication"]["gain"]["gain"].mean() < 0.005)
    True
    """
    check_key(key_added)
    slot = Slot.parse(matrix_slot(layer), mod)
    names = unique_gene_names(adata, slot)
    pairs = pairs_among(resource, names)
    check_groups(adata, [groupby], "Communication", mod, cells=MIN_CELLS)
    refuse_counts(adata, slot, "Communication")
    refuse_negative(adata, slot, "Communication")
    of_targets = _targets(adata, targets, names, pairs, mod)
    mask = np.zeros(len(names), bool)
    mask[pairs.columns] = mask[of_targets] = True
    columns = np.flatnonzero(mask)
    operator = _operator(
        pairs.among(columns),
        np.searchsorted(columns, of_targets),
        [str(name) for name in names[of_targets]],
        {"radius": radius, "n_neighs": n_neighs, "max_epochs": max_epochs, "heads": heads, "n_perms": n_perms}
        | {"holdout": holdout},
    )
    reads = {"x": slot, "groups": f"obs/{groupby}", "points": f"obsm/{spatial_key}"}
    if batch_key is not None:
        reads["slices"] = f"obs/{batch_key}"
    writes = {name: f"uns/{key_added}/{name}" for name in ("links", "gain", "history")}
    writes["strengths"] = f"uns/{key_added}/groups"
    data = own_copy(adata, copy=copy)
    run_step(
        data,
        operator,
        reads=reads,
        writes={"signals": f"obsm/X_{key_added}", **writes},
        constants={f"uns/{key_added}/ligands": np.array(operator.ligand_names, object)},
        select=mask,
        seed=resolve_seed(random_state, None),
        mod=mod,
    )
    _report(read(data, Slot("uns", (key_added,), mod)))
    return data if copy else None


def _report(found: Mapping[str, Any]) -> None:
    """Say where nothing was found."""
    gain, n_links = found["gain"]["gain"].mean(), int((found["links"]["padj"] < CALLED).sum())
    if gain <= 0 or not n_links:
        log.warn(
            "No communication found: signals of neighbours change the R2 of targets in held-out blocks by "
            f"{gain:.2g} on average, and {n_links} links have padj < {CALLED:g}."
        )


def _targets(data, targets: Sequence[str] | None, names: pd.Index, pairs: Pairs, mod: str | None) -> np.ndarray:
    """Columns of the genes that may respond."""
    if targets is not None:
        return np.sort(names.get_indexer(present_genes(targets, names, "targets")))
    others = np.ones(len(names), bool)
    others[pairs.columns] = False
    variable = Slot("var", ("highly_variable",), mod)
    if exists(data, variable):
        others &= np.asarray(read(data, variable), bool)
    if not others.any():
        among = f"{variable.written()} selects no other gene" if exists(data, variable) else "there is no other gene"
        msg = f"Ligands and receptors are no targets, and {among}: name the genes that may respond, targets=[...]."
        raise ValueError(msg)
    return np.flatnonzero(others)


def _operator(pairs: Pairs, targets: np.ndarray, names: list[str], settings: dict[str, Any]) -> Communication:
    ligands = dict(zip(pairs.ligands, pairs.ligand_columns, strict=True))
    receptors = dict(zip(pairs.receptors, pairs.receptor_columns, strict=True))
    of_ligand, of_receptor = ({name: i for i, name in enumerate(side)} for side in (ligands, receptors))
    return Communication(
        ligands=tuple(ligands.values()),
        receptors=tuple(receptors.values()),
        pairs=tuple((of_ligand[a], of_receptor[b]) for a, b in zip(pairs.ligands, pairs.receptors, strict=True)),
        targets=tuple(targets.tolist()),
        ligand_names=tuple(ligands),
        target_names=tuple(names),
        **settings,
    )
