"""Turn what scanpy computed into recorded steps, where scanpy left enough to do so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.ops.operator import Operator
from dbx.program import log
from dbx.program.compat import own_copy
from dbx.program.record.commit import commit
from dbx.program.record.holes import holes_of, is_outside, maker_of
from dbx.program.record.inputs import trace
from dbx.program.record.insert import insert
from dbx.program.record.prints import original
from dbx.program.record.recording import new_step
from dbx.program.record.registry import Registry, load
from dbx.program.record.step import Read, Step
from dbx.program.replay.location import Location
from dbx.program.replay.plan import Version
from dbx.program.replay.sources import replayed
from dbx.program.slots.genes import gene_array
from dbx.program.slots.slots import Slot, read
from dbx.program.wrappers import finders

if TYPE_CHECKING:
    from anndata import AnnData


def adopt(adata: AnnData, *, copy: bool = False) -> AnnData | None:
    """Record results that scanpy computed as steps of a program, before, between or after those of dbx.

    Looked for, each checked against the data before it is believed:

    - normalisation to one total per cell and ``log1p``, where X is what they give;
    - what changed X between two steps of dbx: ``normalize_total``, ``log1p``, ``sqrt``, ``scale``, ``regress_out``,
      ``combat`` without covariates and combinations of them, or ``normalize_pearson_residuals``, where they give the
      values that the next step read;
    - ``highly_variable_genes`` (``var["highly_variable"]``), ``scale`` (``var["mean"]``, ``var["std"]``);
    - ``pca`` (``varm["PCs"]``, ``obsm["X_pca"]``; the means of the genes, which scanpy does not keep, are found again);
    - ``neighbors``, where the distances of a sample of cells are those in the embedding it names and no cell is nearer;
    - Harmony in ``obsm["X_pca_harmony"]``, where dbx's Harmony gives the same embedding;
    - ``diffmap`` (``obsm["X_diffmap"]``), where it holds eigenvectors of the graph, and ``dpt``, where they give its
      times.

    A step is put where its result was computed. Steps that read the result are wired to it and are not stale.

    Parameters
    ----------
    adata
        The annotated data; recorded steps keep what they learnt.
    copy
        Return a copy instead of writing into ``adata``.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes ``uns["dbx"]`` only, and with ``diffmap``
    ``obs["diffmap_density"]``, which the placing of new cells needs. A warning names each result that could not be
    adopted, and why.

    Raises
    ------
    ValueError
        There is nothing to adopt.
    """
    adata = own_copy(adata, copy=copy)
    registry = load(adata)
    adoption = Adoption(adata, registry)
    for find in finders():
        find(adoption)
    if not adoption.found:
        raise ValueError(_nothing(adoption))
    for note in adoption.notes:
        log.warn(f"Not adopted: {note}")
    commit(adata, registry, adoption.made)
    log.info("adopted " + ", ".join(adoption.found))
    for hole in (hole for step in registry for hole in holes_of(step)):
        log.info(f"    still from outside: {hole.reason()}")
    return adata if copy else None


def _nothing(adoption: Adoption) -> str:
    if adoption.notes:
        return f"Nothing was adopted: {' '.join(adoption.notes)}"
    if len(adoption.registry) and not any(holes_of(step) for step in adoption.registry):
        return "There is nothing to adopt: every recorded step reads what a recorded step wrote, or what was measured."
    return (
        "There is nothing to adopt: neither uns['log1p'], var['highly_variable'], var['mean'] and var['std'], nor "
        "varm['PCs'] with obsm['X_pca'] could be used."
    )


@dataclass
class Adoption:
    """What is found in ``adata`` one after the other, each recorded as a step that was not run here."""

    adata: AnnData
    registry: Registry
    found: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be adopted, and why."""
    made: dict[Slot, Any] = field(default_factory=dict)
    """What is written beside the program, as new cells need it."""

    def read_of(self, slot: Slot, content: str | None = None) -> tuple[Read, np.ndarray | None]:
        """What a step that reads the present value of a slot reads, and the fingerprint if no step wrote it."""
        value = read(self.adata, slot)
        found = trace(self.adata, self.registry, slot, value)
        source = self.registry.by_id(found.source)
        unknown = source is None and found.gap is None
        outside = unknown and is_outside(self.adata, self.registry, slot, value, found.print_)
        entry = Read(
            slots=(found.slot,),
            source=found.source,
            gap=found.gap,
            content=content if source is None else source.content.get(found.slot),
            outside=outside,
            maker=maker_of(self.adata, self.registry, slot) if outside or found.gap else "",
        )
        return entry, found.print_ if found.source is None else None

    def values_of(self, version: Version) -> tuple[Any, pd.Index | None]:
        """What a version of a slot was and the names of its columns: stored, or computed again.

        Raises
        ------
        ValueError
            Neither is possible.
        """
        location = Location(self.adata, self.registry, {}, own=True)
        replay = replayed(self.registry, location, self.adata.n_obs, [version])
        found = replay.env[version]
        return found.value, found.genes

    def record(
        self,
        operator: Operator,
        reads: Mapping[str, Read],
        writes: Mapping[str, str],
        *,
        outside: Mapping[Slot, np.ndarray] | None = None,
        known: Mapping[Slot, np.ndarray | None] | None = None,
        genes: pd.Index | None = None,
        select: str | None = None,
        places: Mapping[str, Slot] | None = None,
        constants: Mapping[Slot, Any] | None = None,
        chosen: pd.Index | None = None,
        made: Mapping[Slot, Any] | None = None,
    ) -> Step:
        """Record a step, in its place among the others.

        ``outside`` are fingerprints of what it read from outside the program. ``known`` are those of what it wrote
        where this is not in its slot any more (None if unknown), ``chosen`` the genes that a mask it wrote selects.
        ``made`` are outputs that are not there yet and are written with the program.
        """
        slots = {name: Slot.parse(slot) for name, slot in writes.items()}
        known, made = known or {}, dict(made or {})
        here = {
            slot: read(self.adata, slot) for slot in slots.values() if slot not in known and slot not in made
        } | made
        chooser = None if select is None else self.registry.writer(select)
        step = new_step(
            self.adata,
            self.registry,
            operator,
            reads=reads,
            writes=slots,
            values=here,
            outside={},
            n_cells=self.adata.n_obs,
            genes=gene_array(self.adata.var_names if genes is None else genes),
            select=Slot.parse(select) if select else None,
            select_source=None if chooser is None else chooser.id,
            places=places,
            constants=constants,
        )
        prints: dict[str, np.ndarray] = {slot: print_ for slot, print_ in known.items() if print_ is not None}
        prints |= {original(slot) if slot in slots.values() else slot: old for slot, old in (outside or {}).items()}
        step = replace(step, fingerprints={**step.fingerprints, **prints})
        masks = {} if chosen is None else {slot: np.asarray(chosen) for slot in slots.values()}
        step = insert(self.registry, step, masks)
        self.found.append(step.name)
        self.made |= made
        return step
