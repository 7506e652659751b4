"""New cells among the neighbours of a reference, by its program or by what scanpy computed there."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import anndata
import numpy as np
import pandas as pd
from scipy import sparse

from dbx._warnings import DbxWarning
from dbx.data.blocks import RowBlocks
from dbx.ops.apply import apply
from dbx.ops.graph.neighbors import Neighbors
from dbx.ops.layout.umap import UMAP
from dbx.ops.operator import Reference
from dbx.ops.values import Edges
from dbx.program import Slot, SlotError, adopt, graph_slot, log, looks_like_counts, representation_slot, rerun
from dbx.program.record.registry import load
from dbx.program.replay.shared import shared_writer

if TYPE_CHECKING:
    from anndata import AnnData

CALLS = {"pca": "pp.pca", "umap": "tl.umap"}


class Found(NamedTuple):
    """New cells in the reference."""

    embeddings: dict[str, np.ndarray]
    """Key of ``obsm`` -> positions."""
    distances: sparse.csr_matrix
    """To the nearest reference cells, of shape (n_cells, n_reference_cells); zeros are stored."""


class Source(NamedTuple):
    """A reference with neighbours, and a program that leads to what they were found in."""

    reference: AnnData
    about: dict[str, Any]
    """Its entry of ``uns`` about the neighbours."""
    representation: str
    """The slot in which they were found."""
    n_dims: int | None
    is_adopted: bool = False

    @classmethod
    def of(cls, reference: AnnData, neighbors_key: str | None, wanted: list[str]) -> Source:
        """The reference, or a copy in which scanpy's results are adopted as steps.

        Raises
        ------
        SlotError
            It has no neighbours or no such embedding.
        """
        graph_slot(reference, neighbors_key)
        for name in wanted:
            if f"X_{name}" not in reference.obsm:
                call = f"dbx.{CALLS[name]}(adata_ref)"
                msg = f"adata_ref.obsm['X_{name}'] is missing. Make it with {call}, or leave {name!r} out."
                raise SlotError(msg)
        about = dict(reference.uns[neighbors_key or "neighbors"])
        params = about.get("params", {})
        slot, n_dims = representation_slot(reference, params.get("use_rep"), params.get("n_pcs"))
        if slot is None:
            msg = "adata_ref has no components any more, in which its neighbours were found: run dbx.pp.pca(adata_ref)."
            raise SlotError(msg)
        source = cls(reference, about, slot, n_dims)
        needed = {slot, *(f"obsm/X_{name}" for name in wanted if name == "pca")} - {"X"}
        return (
            source
            if all(map(source.writer, needed))
            else source._replace(reference=adopted(reference), is_adopted=True)
        )

    def writer(self, slot: str) -> str | None:
        """Name of the step that wrote a slot."""
        step = load(self.reference).writer(Slot.parse(slot))
        return None if step is None else step.name

    def slot(self, kind: str) -> str:
        """The slot of the distances or connectivities."""
        return f"obsp/{self.about.get(f'{kind}_key', kind)}"

    def mapped(self, new: AnnData, wanted: list[str]) -> Found:
        """New cells by the steps of the reference, and placed among its cells where there is no step for it.

        Raises
        ------
        ValueError
            No step leads to what is wanted.
        """
        cells = own_container(new, self.reference)
        slots = [self.representation, self.slot("distances"), *(f"obsm/X_{name}" for name in wanted)]
        names = list(dict.fromkeys(name for name in map(self.writer, slots) if name is not None))
        if names:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "The mapped program replaces", DbxWarning)  # in a copy
                cells = rerun(cells, self.reference, steps=names, start=self._start(cells), copy=True)
        rep = self._values(cells)
        graph = self._graph(cells, rep)
        embeddings = {"rep": rep}
        if "pca" in wanted:
            embeddings["X_pca"] = self._mapped(cells, "X_pca")
        if "umap" in wanted:
            recorded = self.writer("obsm/X_umap") is not None
            embeddings["X_umap"] = cells.obsm["X_umap"] if recorded else self._laid_out(graph["connectivities"])
        return Found(embeddings, graph["distances"])

    def _start(self, cells: AnnData) -> str | None:
        """The step whose X new cells hold: as for scanpy, they are in the state of the reference unless raw counts."""
        shared = shared_writer(cells, load(self.reference))
        if shared is not None and not looks_like_counts(cells.X):
            return shared.name
        return self.writer("X") if self.is_adopted and not looks_like_counts(cells.X) else None

    def _values(self, cells: AnnData) -> np.ndarray:
        """Coordinates in which neighbours are found."""
        if self.representation == "X":
            return RowBlocks(cells.X[:, cells.var_names.get_indexer(self.reference.var_names)]).dense()
        return self._mapped(cells, self.representation.partition("/")[2])[:, : self.n_dims]

    def _mapped(self, cells: AnnData, key: str) -> np.ndarray:
        if self.writer(f"obsm/{key}") is None and key not in cells.obsm:
            msg = (
                f"adata_ref.obsm[{key!r}] was not computed by a recorded step, nor could it be adopted, so there is no "
                f"map for new cells: compute it with dbx, or provide adata.obsm[{key!r}]."
            )
            raise ValueError(msg)
        return np.asarray(cells.obsm[key])

    def _graph(self, cells: AnnData, rep: np.ndarray) -> dict[str, sparse.csr_matrix]:
        """Distances and weights to the nearest reference cells."""
        kinds = ("distances", "connectivities")
        if self.writer(self.slot("distances")) is not None:
            return {kind: cells.obsm[f"reference_{self.slot(kind).partition('/')[2]}"] for kind in kinds}
        params = self.about.get("params", {})
        options = tuple(dict(params.get("metric_kwds", {})).items())
        method = params.get("method", "umap")
        operator = Neighbors(
            n_neighbors=int(params["n_neighbors"]),
            metric=params.get("metric", "euclidean"),
            metric_kwds=options,
            method=method if method in ("umap", "gauss", "jaccard") else "umap",
        )
        reference = RowBlocks(self._values(self.reference))
        operator.fit(x=reference, rows=np.arange(reference.n_rows, dtype=np.int32))
        rows = np.full(len(rep), -1, np.int32)
        graphs = apply(operator, {"x": RowBlocks(rep), "rows": rows}, len(rep))
        return {kind: graphs[kind].to_csr() for kind in kinds}

    def _laid_out(self, weights: sparse.csr_matrix) -> np.ndarray:
        """Positions in a layout of scanpy's, which stays as it is."""
        params = self.reference.uns.get("umap", {}).get("params", {})
        positions = np.asarray(self.reference.obsm["X_umap"], np.float32)
        usual = UMAP().curve
        a, b = (float(params.get(name, getattr(usual, name))) for name in ("a", "b"))
        operator = UMAP(n_components=positions.shape[1], a=a, b=b)
        operator.embedding = Reference(positions)
        rows = np.full(weights.shape[0], -1, np.int32)
        return apply(operator, {"graph": Edges(sparse.csr_matrix(weights), rows)}, len(rows))["z"]


def adopted(reference: AnnData) -> AnnData:
    """A copy of a reference in which what scanpy computed is recorded as steps, as far as it can be."""
    copy = reference.copy()
    try:
        adopt(copy)
    except ValueError:
        log.info("    nothing of scanpy's could be adopted in the reference")
    return copy


def own_container(new: AnnData, reference: AnnData) -> AnnData:
    """New cells in an AnnData of their own, which shares their matrices; genes are spelled as in the reference."""
    var = new.var.copy()
    if len(var) == reference.n_vars and (var.index.str.upper() == reference.var_names.str.upper()).all():
        var.index = reference.var_names
    program = {"dbx": new.uns["dbx"]} if "dbx" in new.uns else {}  # its record tells what X is
    return anndata.AnnData(
        new.X, obs=new.obs.copy(), var=var, uns=program, layers=dict(new.layers), obsm=dict(new.obsm)
    )


def nearest_only(distances: sparse.csr_matrix, k: int | None) -> sparse.csr_matrix:
    """Indicators of the nearest reference cells of each cell, of all stored ones without ``k``.

    Raises
    ------
    ValueError
        There are not so many.
    """
    counts = np.diff(distances.indptr)
    width = int(counts.max(initial=0))
    if k is not None and not 1 <= k <= width:
        msg = f"k must be from 1 to {width}, the number of neighbours of the reference; got {k}."
        raise ValueError(msg)
    kept = np.ones(distances.nnz, bool)
    if k is not None and k < width:
        rows = np.repeat(np.arange(len(counts)), counts)
        order = np.lexsort((distances.data, rows))
        kept[order] = np.arange(distances.nnz) - np.repeat(distances.indptr[:-1], counts) < k
    ends = np.concatenate([[0], np.cumsum(kept)])[distances.indptr]
    ones = np.ones(int(kept.sum()))
    return sparse.csr_matrix((ones, distances.indices[kept], ends), shape=distances.shape)


def majority(nearest: sparse.csr_matrix, labels: pd.Series) -> pd.Categorical:
    """Label of most of the nearest cells, the first category of several; missing where none has a label."""
    column = labels.astype("category").cat
    codes = column.codes.to_numpy()
    labelled = codes >= 0
    ballots = sparse.csr_matrix(
        (np.ones(labelled.sum()), (np.flatnonzero(labelled), codes[labelled])),
        shape=(len(codes), len(column.categories)),
    )
    votes = (nearest @ ballots).toarray()
    return pd.Categorical.from_codes(np.where(votes.any(axis=1), votes.argmax(axis=1), -1), column.categories)
