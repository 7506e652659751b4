"""Preprocessing: counts to embeddings and neighbours."""

from typing import TYPE_CHECKING

from dbx._lazy import lazy
from dbx.program.wrappers import adopts, makes, recognises

if TYPE_CHECKING:
    from dbx.pp.calculate_qc_metrics import calculate_qc_metrics
    from dbx.pp.combat import combat
    from dbx.pp.denoise import denoise
    from dbx.pp.downsample_counts import downsample_counts
    from dbx.pp.filter_cells import filter_cells
    from dbx.pp.filter_genes import filter_genes
    from dbx.pp.gene_gate import gene_gate
    from dbx.pp.gene_tokens import gene_tokens
    from dbx.pp.harmony_integrate import harmony_integrate
    from dbx.pp.highly_variable_genes import highly_variable_genes
    from dbx.pp.log1p import log1p
    from dbx.pp.magic import magic
    from dbx.pp.moments import moments
    from dbx.pp.neighbors import neighbors
    from dbx.pp.normalize_pearson_residuals import normalize_pearson_residuals
    from dbx.pp.normalize_total import normalize_total
    from dbx.pp.pca import pca
    from dbx.pp.qc_weights import qc_weights
    from dbx.pp.recipes import recipe_seurat, recipe_zheng17
    from dbx.pp.regress_out import regress_out
    from dbx.pp.remove_ambient import remove_ambient
    from dbx.pp.sample import sample
    from dbx.pp.scale import scale
    from dbx.pp.scrublet import scrublet
    from dbx.pp.scrublet_simulate_doublets import scrublet_simulate_doublets
    from dbx.pp.solo import solo
    from dbx.pp.sqrt import sqrt
    from dbx.pp.subsample import subsample
    from dbx.pp.vae_normalize import vae_normalize

__all__ = [
    "calculate_qc_metrics",
    "combat",
    "denoise",
    "downsample_counts",
    "filter_cells",
    "filter_genes",
    "gene_gate",
    "gene_tokens",
    "harmony_integrate",
    "highly_variable_genes",
    "log1p",
    "magic",
    "moments",
    "neighbors",
    "normalize_pearson_residuals",
    "normalize_total",
    "pca",
    "qc_weights",
    "recipe_seurat",
    "recipe_zheng17",
    "regress_out",
    "remove_ambient",
    "sample",
    "scale",
    "scrublet",
    "scrublet_simulate_doublets",
    "solo",
    "sqrt",
    "subsample",
    "vae_normalize",
]

RECIPES = {"recipe_seurat": "recipes", "recipe_zheng17": "recipes"}

lazy(__name__, {name: name for name in __all__} | RECIPES, scanpys="refused")

makes(
    {
        "obsm/X_pca": "dbx.pp.pca(adata)",
        "obsm/X_vae": "dbx.pp.vae_normalize(adata)",
        "obsm/X_scVI": "dbx.pp.vae_normalize(adata, layer='counts', key_added='X_scVI')",
        "obsm/X_tokens": "dbx.pp.gene_tokens(adata)",
        "layers/magic": "dbx.pp.magic(adata)",
        "uns/magic": "dbx.pp.magic(adata)",
        "layers/Ms": "dbx.pp.moments(adata)",
        "layers/Mu": "dbx.pp.moments(adata)",
        "obs/doublet_score": "dbx.pp.scrublet(adata)",
        "obs/predicted_doublet": "dbx.pp.scrublet(adata)",
        "uns/scrublet": "dbx.pp.scrublet(adata)",
        "obsp/connectivities": "dbx.pp.neighbors(adata)",
        "obsp/distances": "dbx.pp.neighbors(adata)",
        "scanpy.experimental.pp.normalize_pearson_residuals": "dbx.pp.normalize_pearson_residuals(adata)",
        "scanpy.pp.log1p": "dbx.pp.log1p(adata)",
        "scanpy.pp.neighbors": "dbx.pp.neighbors(adata)",
        "scanpy.pp.scale": "dbx.pp.scale(adata)",
        "uns/neighbors": "dbx.pp.neighbors(adata)",
        "var/highly_variable": "dbx.pp.highly_variable_genes(adata)",
        "var/dispersions_norm": "dbx.pp.highly_variable_genes(adata)",
        "var/variances_norm": 'dbx.pp.highly_variable_genes(adata, flavor="seurat_v3")',
    }
)


def _find_scanpys_results(adoption) -> None:
    from dbx.pp._adopt import find

    find(adoption)


adopts(_find_scanpys_results)


def _maker(data, slot, recorded) -> str | None:
    from dbx.pp._makers import maker

    return maker(data, slot, recorded)


recognises(_maker)
