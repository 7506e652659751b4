"""Results as tidy tables; every other function of ``scanpy.get`` is scanpy's own."""

from typing import TYPE_CHECKING

from dbx._lazy import lazy

if TYPE_CHECKING:
    from dbx.get.align_slices import align_slices
    from dbx.get.center_slice import center_slice
    from dbx.get.de import de
    from dbx.get.differential_distribution import differential_distribution
    from dbx.get.gene_neighbors import gene_neighbors
    from dbx.get.ligrec import ligrec
    from dbx.get.motifs import motifs
    from dbx.get.ot import ot
    from dbx.get.ot_validation import ot_validation
    from dbx.get.quantify import quantify
    from dbx.get.rank_genes_groups import rank_genes_groups
    from dbx.get.segments import segments
    from dbx.get.switch_de import switch_de

__all__ = [
    "align_slices",
    "center_slice",
    "de",
    "differential_distribution",
    "gene_neighbors",
    "ligrec",
    "motifs",
    "ot",
    "ot_validation",
    "quantify",
    "rank_genes_groups",
    "segments",
    "switch_de",
]

lazy(__name__, {name: name for name in __all__}, scanpys="passed")
