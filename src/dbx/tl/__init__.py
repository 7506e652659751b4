"""Tools: batch correction, layouts, clusters, tests, variance stabilisation."""

from typing import TYPE_CHECKING

from dbx._lazy import lazy
from dbx.program.wrappers import makes

if TYPE_CHECKING:
    from dbx.pp.pca import pca
    from dbx.tl.align_slices import align_slices
    from dbx.tl.annotate import annotate
    from dbx.tl.archetypes import archetypes
    from dbx.tl.communication import communication
    from dbx.tl.copy_number import copy_number
    from dbx.tl.de import de
    from dbx.tl.dendrogram import dendrogram
    from dbx.tl.differential_distribution import differential_distribution
    from dbx.tl.diffmap import diffmap
    from dbx.tl.dpt import dpt
    from dbx.tl.draw_graph import draw_graph
    from dbx.tl.embedding_density import embedding_density
    from dbx.tl.fate_probabilities import fate_probabilities
    from dbx.tl.foundation_model import foundation_model
    from dbx.tl.grn import grn
    from dbx.tl.grn_activity import grn_activity
    from dbx.tl.harmony import harmony
    from dbx.tl.hmm import hmm
    from dbx.tl.ingest import ingest
    from dbx.tl.latent_time import latent_time
    from dbx.tl.leiden import leiden
    from dbx.tl.ligrec import ligrec
    from dbx.tl.lisi import lisi
    from dbx.tl.mmd import mmd
    from dbx.tl.ot_ancestors import ot_ancestors
    from dbx.tl.ot_cell_transition import ot_cell_transition
    from dbx.tl.ot_fates import ot_fates
    from dbx.tl.ot_interpolate import ot_interpolate
    from dbx.tl.ot_trajectory import ot_trajectory
    from dbx.tl.paga import paga
    from dbx.tl.phate import phate
    from dbx.tl.pseudotime import pseudotime
    from dbx.tl.quantify import quantify
    from dbx.tl.rank_genes_groups import rank_genes_groups
    from dbx.tl.recover_dynamics import recover_dynamics
    from dbx.tl.score_genes import score_genes
    from dbx.tl.score_genes_cell_cycle import score_genes_cell_cycle
    from dbx.tl.sequence_embedding import sequence_embedding
    from dbx.tl.soft_clusters import soft_clusters
    from dbx.tl.soft_kmeans import soft_kmeans
    from dbx.tl.spatial_domains import spatial_domains
    from dbx.tl.summarize_to_gene import summarize_to_gene
    from dbx.tl.switch_de import switch_de
    from dbx.tl.terminal_states import terminal_states
    from dbx.tl.transfer_labels import transfer_labels
    from dbx.tl.tsne import tsne
    from dbx.tl.umap import umap
    from dbx.tl.velocity import velocity
    from dbx.tl.velocity_confidence import velocity_confidence
    from dbx.tl.velocity_embedding import velocity_embedding
    from dbx.tl.velocity_graph import velocity_graph
    from dbx.tl.velocity_pseudotime import velocity_pseudotime
    from dbx.tl.vst import vst
    from dbx.tl.wgan import wgan

__all__ = [
    "align_slices",
    "annotate",
    "archetypes",
    "communication",
    "copy_number",
    "de",
    "dendrogram",
    "differential_distribution",
    "diffmap",
    "dpt",
    "draw_graph",
    "embedding_density",
    "fate_probabilities",
    "foundation_model",
    "grn",
    "grn_activity",
    "harmony",
    "hmm",
    "ingest",
    "latent_time",
    "leiden",
    "ligrec",
    "lisi",
    "mmd",
    "ot_ancestors",
    "ot_cell_transition",
    "ot_fates",
    "ot_interpolate",
    "ot_trajectory",
    "paga",
    "pca",
    "phate",
    "pseudotime",
    "quantify",
    "rank_genes_groups",
    "recover_dynamics",
    "score_genes",
    "score_genes_cell_cycle",
    "sequence_embedding",
    "soft_clusters",
    "soft_kmeans",
    "spatial_domains",
    "summarize_to_gene",
    "switch_de",
    "terminal_states",
    "transfer_labels",
    "tsne",
    "umap",
    "velocity",
    "velocity_confidence",
    "velocity_embedding",
    "velocity_graph",
    "velocity_pseudotime",
    "vst",
    "wgan",
]

lazy(__name__, {name: name for name in __all__} | {"pca": "dbx.pp.pca"}, scanpys="refused")

makes(
    {
        "obsm/X_pca_harmony": 'dbx.tl.harmony(adata, key="batch")',
        "obsm/X_foundation": "dbx.tl.foundation_model(adata)",
        "varm/foundation_gene": "dbx.tl.foundation_model(adata)",
        "layers/foundation_expected": "dbx.tl.foundation_model(adata, expected=True)",
        "obsm/X_diffmap": "dbx.tl.diffmap(adata)",
        "obsm/X_umap": "dbx.tl.umap(adata)",
        "obsm/spatial_aligned": "dbx.tl.align_slices(adata, slice_key)",
        "uns/align_slices": "dbx.tl.align_slices(adata, slice_key)",
        "obsm/X_phate": "dbx.tl.phate(adata)",
        "uns/phate": "dbx.tl.phate(adata)",
        "obsm/X_tsne": "dbx.tl.tsne(adata)",
        "uns/ot": 'dbx.tl.ot_trajectory(adata, "time")',
        "obsm/ot_potentials": 'dbx.tl.ot_trajectory(adata, "time")',
        "obs/ot_growth": 'dbx.tl.ot_trajectory(adata, "time")',
        "obs/pseudotime": "dbx.tl.pseudotime(adata)",
        "obs/dpt_pseudotime": "dbx.tl.dpt(adata)",
        "uns/paga": "dbx.tl.paga(adata)",
        "scanpy.external.pp.scanorama_integrate": 'dbx.tl.harmony(adata, key="batch")',
        "uns/grn": "dbx.tl.grn(adata, tf_names=...)",
        "obsm/X_grn_activity": "dbx.tl.grn_activity(adata)",
        "obs/leiden": "dbx.tl.leiden(adata)",
        "varm/differential_distribution": 'dbx.tl.differential_distribution(adata, "condition")',
        "varm/switch_de": "dbx.tl.switch_de(adata, pseudotime)",
        "uns/ligrec": 'dbx.tl.ligrec(adata, "leiden")',
        "obsm/X_archetypes": 'dbx.tl.archetypes(adata, "auto")',
        "layers/fit_t": "dbx.tl.recover_dynamics(adata)",
        "layers/fit_velocity": "dbx.tl.recover_dynamics(adata)",
        "var/fit_likelihood": "dbx.tl.recover_dynamics(adata)",
        "obs/latent_time": "dbx.tl.latent_time(adata)",
        "layers/velocity": "dbx.tl.velocity(adata)",
        "var/velocity_genes": "dbx.tl.velocity(adata)",
        "obsp/velocity_graph": "dbx.tl.velocity_graph(adata)",
        "obsp/velocity_graph_neg": "dbx.tl.velocity_graph(adata)",
        "obsm/velocity_umap": 'dbx.tl.velocity_embedding(adata, "umap")',
        "obs/velocity_confidence": "dbx.tl.velocity_confidence(adata)",
        "obs/root_cells": "dbx.tl.terminal_states(adata)",
        "obs/end_points": "dbx.tl.terminal_states(adata)",
        "obs/velocity_pseudotime": "dbx.tl.velocity_pseudotime(adata)",
        "obsm/lineages_fwd": 'dbx.tl.fate_probabilities(adata, "terminal_states")',
        "uns/communication": "dbx.tl.communication(adata, groupby, resource=...)",
        "obsm/X_communication": "dbx.tl.communication(adata, groupby, resource=...)",
        "obs/spatial_domain": "dbx.tl.spatial_domains(adata)",
        "obsm/X_spatial": "dbx.tl.spatial_domains(adata)",
        "obsp/spatial_connectivities": "dbx.tl.spatial_domains(adata)",
        "layers/copy_number": 'dbx.tl.copy_number(adata, reference_key="cell_type", reference=...)',
        "obsm/X_sequence": "dbx.tl.sequence_embedding(adata)",
        "obs/hmm_state": "dbx.tl.hmm(adata, n_states)",
        "obsm/X_hmm": "dbx.tl.hmm(adata, n_states)",
        "obsp/T_fwd": "dbx.tl.velocity_graph(adata)",
    }
)
