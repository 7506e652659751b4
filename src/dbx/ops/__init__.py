"""The operator core: pure JAX, NumPy and SciPy, free of AnnData and scanpy."""

from dbx.ops.batch.harmony.harmony import Harmony
from dbx.ops.catalogue import CATALOGUE
from dbx.ops.clusters.leiden import Leiden
from dbx.ops.components.pca import PCA
from dbx.ops.counts.vae import VAENormalize
from dbx.ops.de.nb_glm import NBGLM
from dbx.ops.de.vst import VST
from dbx.ops.differential.rank_genes_groups import RankGenesGroups
from dbx.ops.genes.highly_variable import HighlyVariable
from dbx.ops.genes.highly_variable_counts import HighlyVariableCounts
from dbx.ops.graph.neighbors import Neighbors
from dbx.ops.layout.parametric_umap import ParametricUMAP
from dbx.ops.layout.umap import UMAP
from dbx.ops.normalization.log1p import Log1p
from dbx.ops.normalization.normalize_total import NormalizeTotal
from dbx.ops.normalization.scale import Scale
from dbx.ops.operator import Constant, Input, Operator, Output, Reference, Text
from dbx.ops.values import Codes, Frame, Graph

__all__ = [
    "CATALOGUE",
    "NBGLM",
    "PCA",
    "UMAP",
    "VST",
    "Codes",
    "Constant",
    "Frame",
    "Graph",
    "Harmony",
    "HighlyVariable",
    "HighlyVariableCounts",
    "Input",
    "Leiden",
    "Log1p",
    "Neighbors",
    "NormalizeTotal",
    "Operator",
    "Output",
    "ParametricUMAP",
    "RankGenesGroups",
    "Reference",
    "Scale",
    "Text",
    "VAENormalize",
]
