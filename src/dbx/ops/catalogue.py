"""Every operator by name; a new one joins the contract suite, saving and rerun by its line here."""

from __future__ import annotations

from dbx.ops.ambient import RemoveAmbient
from dbx.ops.cellassign import CellAssign
from dbx.ops.celltypist import CellTypist
from dbx.ops.denoise import Denoise
from dbx.ops.gene_gate import GeneGate
from dbx.ops.harmony import Harmony
from dbx.ops.highly_variable import HighlyVariable
from dbx.ops.highly_variable_counts import HighlyVariableCounts
from dbx.ops.label_head import LabelHead
from dbx.ops.leiden import Leiden
from dbx.ops.log1p import Log1p
from dbx.ops.mmd import MMD
from dbx.ops.nb_glm import NBGLM
from dbx.ops.neighbors import Neighbors
from dbx.ops.normalize_total import NormalizeTotal
from dbx.ops.operator import Operator
from dbx.ops.parametric_umap import ParametricUMAP
from dbx.ops.pca import PCA
from dbx.ops.rank_genes_groups import RankGenesGroups
from dbx.ops.scale import Scale
from dbx.ops.scanvi import ScANVI
from dbx.ops.soft_clusters import SoftClusters
from dbx.ops.solo import Solo
from dbx.ops.umap import UMAP
from dbx.ops.vae import VAENormalize
from dbx.ops.vst import VST
from dbx.ops.wgan import WGAN

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
