"""Every operator by name; a new one joins the contract suite, saving and rerun by its line here."""

from __future__ import annotations

from dbx.ops.annotation.cellassign import CellAssign
from dbx.ops.annotation.celltypist import CellTypist
from dbx.ops.annotation.label_head import LabelHead
from dbx.ops.annotation.scanvi import ScANVI
from dbx.ops.batch.harmony.harmony import Harmony
from dbx.ops.batch.mmd import MMD
from dbx.ops.batch.wgan import WGAN
from dbx.ops.clusters.leiden import Leiden
from dbx.ops.clusters.soft_clusters import SoftClusters
from dbx.ops.components.pca import PCA
from dbx.ops.counts.denoise import Denoise
from dbx.ops.counts.vae import VAENormalize
from dbx.ops.de.nb_glm import NBGLM
from dbx.ops.de.vst import VST
from dbx.ops.differential.rank_genes_groups import RankGenesGroups
from dbx.ops.droplets.ambient import RemoveAmbient
from dbx.ops.droplets.solo import Solo
from dbx.ops.genes.gene_gate import GeneGate
from dbx.ops.genes.highly_variable import HighlyVariable
from dbx.ops.genes.highly_variable_counts import HighlyVariableCounts
from dbx.ops.graph.neighbors import Neighbors
from dbx.ops.layout.parametric_umap import ParametricUMAP
from dbx.ops.layout.umap import UMAP
from dbx.ops.normalization.log1p import Log1p
from dbx.ops.normalization.normalize_total import NormalizeTotal
from dbx.ops.normalization.scale import Scale
from dbx.ops.operator import Operator

OPERATORS: tuple[type[Operator], ...] = (
    NormalizeTotal,
    Log1p,
    HighlyVariable,
    HighlyVariableCounts,
    Scale,
    GeneGate,
    PCA,
    VAENormalize,
    Harmony,
    Neighbors,
    UMAP,
    ParametricUMAP,
    Leiden,
    RankGenesGroups,
    NBGLM,
    VST,
    CellTypist,
    ScANVI,
    CellAssign,
    Solo,
    RemoveAmbient,
    MMD,
    WGAN,
    Denoise,
    LabelHead,
    SoftClusters,
)

CATALOGUE: dict[str, type[Operator]] = {operator.name: operator for operator in OPERATORS}
