"""Diffusion components and pseudotime that scanpy computed, for ``dbx.adopt``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.diffusion.diffusion_map import DiffusionMap
from dbx.ops.diffusion.markov import components
from dbx.ops.diffusion.pseudotime import DiffusionPseudotime
from dbx.ops.operator import Reference
from dbx.program.record.step import Read
from dbx.program.replay.adopt import Adoption
from dbx.program.slots.slots import Slot, exists, read

RESIDUAL = 1e-3
"""Maximum norm of T v - lambda v for eigenvectors of norm 1."""
SAME_TIME = 1e-3
"""Maximum difference of pseudotime, which is at most 1."""
USUAL_DCS = 10

EMBEDDING, DENSITY, TIME = (
    Slot("obsm", ("X_diffmap",)),
    Slot("obs", ("diffmap_density",)),
    Slot("obs", ("dpt_pseudotime",)),
)
VALUES, ROOT = Slot("uns", ("diffmap_evals",)), Slot("uns", ("iroot",))


def find_diffusion(adoption: Adoption) -> None:
    """``diffmap``, where its vectors are eigenvectors of a graph, and ``dpt``, where they give the same pseudotime."""
    adata = adoption.adata
    if _is_new(adoption, EMBEDDING) and exists(adata, VALUES):
        _note(adoption, EMBEDDING, "diffmap", _adopt_components(adoption))
    if _is_new(adoption, TIME) and exists(adata, ROOT) and exists(adata, EMBEDDING):
        _note(adoption, TIME, "dpt", _adopt_pseudotime(adoption))


def _is_new(adoption: Adoption, slot: Slot) -> bool:
    return exists(adoption.adata, slot) and adoption.read_of(slot)[0].source is None


def _note(adoption: Adoption, slot: Slot, name: str, reason: str | None) -> None:
    if reason is not None:
        adoption.notes.append(f"{name} in {slot.written()} ({reason}).")


def _graphs(adata) -> Iterator[tuple[Slot, sparse.csr_matrix]]:
    """Connectivities of neighbours."""
    for about in adata.uns.values():
        key = about.get("connectivities_key") if isinstance(about, Mapping) else None
        if isinstance(key, str) and exists(adata, Slot("obsp", (key,))):
            yield Slot("obsp", (key,)), sparse.csr_matrix(adata.obsp[key])


def _adopt_components(adoption: Adoption) -> str | None:
    """Record diffusion components; otherwise why not."""
    vectors = np.asarray(read(adoption.adata, EMBEDDING))
    values = np.asarray(adoption.adata.uns["diffmap_evals"], np.float64).ravel()
    if vectors.ndim != 2 or len(values) != vectors.shape[1]:
        return f"it has shape {vectors.shape}, but there are {len(values)} eigenvalues"
    for slot, graph in _graphs(adoption.adata):
        operator = DiffusionMap(n_comps=len(values))
        if operator.take(graph, vectors.astype(np.float64), values) > RESIDUAL:
            continue
        if np.abs(vectors.T @ vectors - np.eye(len(values))).max() > RESIDUAL:
            return "its columns are eigenvectors, but not orthogonal and of norm 1: they were changed since"
        if components(graph).n > 1:
            return f"the graph has {components(graph).described()}, whose stationary states scanpy mixes"
        density = np.asarray(operator.densities.get_value())
        _record(
            adoption,
            operator,
            {"graph": slot},
            {"z": EMBEDDING, "evals": VALUES, "density": DENSITY},
            made={DENSITY: density},
        )
        return None
    return "its columns are not eigenvectors of the connectivities that are there: they or the cells were changed since"


def _adopt_pseudotime(adoption: Adoption) -> str | None:
    """Record pseudotime; otherwise why not."""
    adata = adoption.adata
    z, times = RowBlocks(read(adata, EMBEDDING)), np.asarray(read(adata, TIME), np.float64)
    root = np.asarray(adata.uns["iroot"])
    if root.size != 1 or root.dtype.kind not in "iu" or not 0 <= root.item() < adata.n_obs:
        return f"uns['iroot'] is not the number of a cell: {adata.uns['iroot']!r}"
    for slot, graph in _graphs(adata):
        for n_dcs in sorted(range(1, z.n_columns + 1), key=lambda n: n != USUAL_DCS):
            operator = DiffusionPseudotime(iroot=int(root.item()), n_dcs=n_dcs)
            operator.fit(z=z, graph=graph)
            found = np.asarray(operator.times.get_value(), np.float64)
            if np.array_equal(np.isinf(found), np.isinf(times)) and np.allclose(found, times, atol=SAME_TIME):
                operator.times = Reference(jnp.asarray(times, jnp.float32))
                reads = {"z": EMBEDDING, "graph": slot}
                _record(adoption, operator, reads, {"pseudotime": TIME}, constants={ROOT: int(root.item())})
                return None
    return "no number of components in obsm['X_diffmap'] gives these times from uns['iroot']"


def _record(adoption: Adoption, operator, reads: Mapping[str, Slot], writes: Mapping[str, Slot], **options) -> None:
    entries: dict[str, Read] = {}
    outside: dict[Slot, np.ndarray] = {}
    for name, slot in reads.items():
        entries[name], print_ = adoption.read_of(slot)
        if print_ is not None:
            outside[entries[name].slots[0]] = print_
    named = {name: str(slot) for name, slot in writes.items()}
    adoption.record(operator, entries, named, outside=outside, **options)
