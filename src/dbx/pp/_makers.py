"""Which function of scanpy or another tool made a value, by the traces it left."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from dbx.program import Slot, exists, holder

TRACES = {
    "X": {
        "uns/log1p": "scanpy.pp.log1p",
        "var/std": "scanpy.pp.scale",
        "uns/pearson_residuals_normalization": "scanpy.experimental.pp.normalize_pearson_residuals",
    },
    "obsm/X_pca": {"varm/PCs": "scanpy.pp.pca"},
    "obsm/X_umap": {"uns/umap": "scanpy.tl.umap"},
    "obsm/X_tsne": {"uns/tsne": "scanpy.tl.tsne"},
    "obsm/X_diffmap": {"uns/diffmap_evals": "scanpy.tl.diffmap"},
}
"""Slot -> what is there besides -> what made both."""
NAMES = {
    "obsm/X_pca_harmony": "scanpy.external.pp.harmony_integrate",
    "obsm/X_trimap": "scanpy.external.tl.trimap",
    "obsm/X_scanorama": "scanpy.external.pp.scanorama_integrate",
    "obsm/X_scVI": "scvi-tools",
    "obsm/X_scANVI": "scvi-tools",
    "layers/Ms": "scvelo.pp.moments",
    "layers/Mu": "scvelo.pp.moments",
}
"""Slot -> what usually makes it."""


def maker(data: Any, slot: Slot, recorded: Collection[str]) -> str | None:
    """What made the value of a slot, None if nothing tells; traces at ``recorded`` slots are of recorded steps."""
    plain = Slot(slot.container, slot.keys)
    for trace, name in TRACES.get(plain, {}).items():
        there = Slot.parse(trace, slot.mod)
        if there not in recorded and exists(data, there):
            return name
    if slot.container == "obsp" and _of_neighbors(data, slot, recorded):
        return "scanpy.pp.neighbors"
    return NAMES.get(plain)


def _of_neighbors(data: Any, slot: Slot, recorded: Collection[str]) -> bool:
    """Whether settings in ``uns`` name a graph as theirs."""
    for key, about in holder(data, slot).uns.items():
        if isinstance(about, dict) and Slot("uns", (key,), slot.mod) not in recorded:
            known = (about.get("connectivities_key"), about.get("distances_key"))
            if slot.key in known:
                return True
    return False
