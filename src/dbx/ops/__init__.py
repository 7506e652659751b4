"""The operator core: pure JAX, NumPy and SciPy, free of AnnData and scanpy."""

from dbx.ops.catalogue import CATALOGUE
from dbx.ops.harmony import Harmony
from dbx.ops.highly_variable import HighlyVariable
from dbx.ops.highly_variable_counts import HighlyVariableCounts
from dbx.ops.leiden import Leiden
from dbx.ops.log1p import Log1p
from dbx.ops.nb_glm import NBGLM
from dbx.ops.neighbors import Neighbors
from dbx.ops.normalize_total import NormalizeTotal
from dbx.ops.operator import Constant, Input, Operator, Output, Reference
from dbx.ops.parametric_umap import ParametricUMAP
from dbx.ops.pca import PCA
from dbx.ops.rank_genes_groups import RankGenesGroups
from dbx.ops.scale import Scale
from dbx.ops.umap import UMAP
from dbx.ops.vae import VAENormalize
from dbx.ops.values import Codes, Frame, Graph
from dbx.ops.vst import VST

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
    "VAENormalize",
]
