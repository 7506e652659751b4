"""Sequences of other data, and of genes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dbx.ops.operator import Operator
from dbx.program import Slot, holder, read, run_step
from dbx.program.slots.kinds import KINDS, Request, Value

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def sequences_of(data: AnnData, operator: Operator, reads: Mapping[str, str]) -> dict[str, Any]:
    """The sequences of other data, in the slot that the step reads, as the operator takes them."""
    name = next(name for name in ("text", "x") if name in reads)
    slot, port = Slot.parse(reads[name]), operator.inputs[name]
    request = Request(step="pretrain_on", port=port, slots=(slot,), values=(Value(read(data, slot)),))
    return {name: KINDS[port.kind].read(request)}


def along_genes(
    adata: AnnData | MuData,
    operator: Operator,
    *,
    reads: Mapping[str, str],
    writes: Mapping[str, str],
    seed: int,
    copy: bool,
    mod: str | None,
) -> AnnData | MuData | None:
    """Run a step on genes as rows, and write what it gives for them."""
    import anndata as ad

    data = adata.copy() if copy else adata
    owner = holder(data, Slot("X", mod=mod) if mod else Slot("var"))
    genes = ad.AnnData(obs=owner.var.copy(), obsm=dict(owner.varm))
    run_step(genes, operator, reads=reads, writes=writes, seed=seed)
    for address in writes.values():
        slot = Slot.parse(address)
        container = {"obs": owner.var, "obsm": owner.varm, "uns": owner.uns}[slot.container]
        container[slot.key] = getattr(genes, slot.container)[slot.key]
    return data if copy else None
