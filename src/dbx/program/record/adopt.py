"""Turn what scanpy computed into recorded steps, where scanpy left enough to do so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from dbx.ops.operator import Operator
from dbx.program import log
from dbx.program.compat import own_copy
from dbx.program.record.commit import commit
from dbx.program.record.recording import new_step
from dbx.program.record.registry import Registry, load
from dbx.program.record.step import Read, Step
from dbx.program.slots.genes import gene_array
from dbx.program.slots.slots import Slot, read
from dbx.program.wrappers import finders

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from anndata import AnnData


def adopt(adata: AnnData, *, copy: bool = False) -> AnnData | None:
    """Record results that scanpy computed as steps of a program, so that one can start mid-way.

    Looked for, each checked against the data before it is believed: normalisation to one total per cell and ``log1p``
    (``uns["log1p"]``), ``highly_variable_genes`` (``var["highly_variable"]``), ``scale`` (``var["mean"]``,
    ``var["std"]``) and ``pca`` (``varm["PCs"]``, ``obsm["X_pca"]``; the means of the genes, which scanpy does not keep,
    are found again).

    Parameters
    ----------
    adata
        The annotated data; steps already recorded are left as they are.
    copy
        Return a copy instead of writing into ``adata``.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes ``uns["dbx"]`` only. A warning names each result that could not be
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
    for note in adoption.notes:
        log.warn(f"Not adopted: {note}")
    if not adoption.found:
        msg = (
            "There is nothing to adopt: neither uns['log1p'], var['highly_variable'], var['mean'] and var['std'], nor "
            "varm['PCs'] with obsm['X_pca'] could be used."
        )
        raise ValueError(msg)
    commit(adata, registry, {})
    log.hint("adopted " + ", ".join(adoption.found))
    return adata if copy else None


@dataclass
class Adoption:
    """What is found in ``adata`` one after the other, each recorded as a step that was not run here."""

    adata: AnnData
    registry: Registry
    found: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What could not be adopted, and why."""

    def record(
        self,
        operator: Operator,
        source: Step | None,
        writes: Mapping[str, str],
        print_: np.ndarray | None,
        *,
        genes: pd.Index | None = None,
        select: str | None = None,
        content: str | None = None,
    ) -> None:
        """Record a step that read the X of ``source`` (None: X as it was first, of which ``print_`` is known).

        ``content`` is what X held then, where no recorded step says so.
        """
        registry, x = self.registry, Slot("X")
        self._forget_x(writes)
        slots = {name: Slot.parse(slot) for name, slot in writes.items()}
        held = None if source is None else source.content.get(x)
        chooser = None if select is None else registry.writer(select)
        held = content if source is None else source.content.get(x)
        step = new_step(
            self.adata,
            registry,
            operator,
            reads={"x": Read(slots=(x,), source=None if source is None else source.id, content=held)},
            writes=slots,
            values={slot: read(self.adata, slot) for slot in slots.values()},
            outside={} if print_ is None else {x: print_},
            n_cells=self.adata.n_obs,
            genes=gene_array(self.adata.var_names if genes is None else genes),
            select=Slot.parse(select) if select else None,
            select_source=None if chooser is None else chooser.id,
        )
        self.found.append(registry.record(step).name)

    def _forget_x(self, writes: Mapping[str, str]) -> None:
        """Only the last writer of X knows what it looks like now: earlier versions are gone and have no fingerprint."""
        if "X" in writes.values():
            self.registry.steps = [
                replace(step, fingerprints={k: v for k, v in step.fingerprints.items() if k != "X"})
                if "X" in step.writes.values()
                else step
                for step in self.registry
            ]
