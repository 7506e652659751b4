"""Sequences of other data, and of genes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dbx.data.text import as_bytes
from dbx.ops.operator import Operator
from dbx.program import Slot, holder, read, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData


def sequences_of(data: AnnData, reads: Mapping[str, str]) -> dict[str, Any]:
    """The sequences of other data, in the slot that the step reads, as the operator takes them."""
    if "x" in reads:
        return {"x": np.asarray(read(data, Slot.parse(reads["x"])))}
    slot = Slot.parse(reads["text"])
    texts = list(read(data, slot))
    wrong = next((row for row, text in enumerate(texts) if not isinstance(text, str)), None)
    if wrong is not None:
        msg = f"pretrain_on has no text in {slot.written('pretrain_on')}, row {wrong}: got {texts[wrong]!r}."
        raise ValueError(msg)
    return {"text": as_bytes(texts)}


def along_genes(
    adata: AnnData | MuData,
    operator: Operator,
    *,
    reads: Mapping[str, str],
    writes: Mapping[str, str],
    fit_with: Mapping[str, Any],
    seed: int,
    copy: bool,
    mod: str | None,
) -> AnnData | MuData | None:
    """Run a step on genes as rows, and write what it gives for them."""
    import anndata as ad

    data = adata.copy() if copy else adata
    owner = holder(data, Slot("X", mod=mod) if mod else Slot("var"))
    genes = ad.AnnData(obs=owner.var.copy(), obsm=dict(owner.varm))
    run_step(genes, operator, reads=reads, writes=writes, fit_with=fit_with, seed=seed)
    for address in writes.values():
        slot = Slot.parse(address)
        container = {"obs": owner.var, "obsm": owner.varm, "uns": owner.uns}[slot.container]
        container[slot.key] = getattr(genes, slot.container)[slot.key]
    return data if copy else None
