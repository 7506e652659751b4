"""Every operator by name; a new one joins the contract suite, saving and rerun by its line here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from dbx._version import __version__
from dbx.ops.installed import installed, load, requirement

if TYPE_CHECKING:
    from dbx.ops.operator import Operator

OPERATORS: dict[str, str] = {
    "qc_metrics": "quality.qc_metrics:QCMetrics",
    "qc_weights": "quality.qc_weights:QCWeights",
    "filter_cells": "quality.filter_cells:FilterCells",
    "filter_genes": "quality.filter_genes:FilterGenes",
    "downsample_counts": "dbx.pp._downsampling:DownsampleCounts",
    "normalize_total": "normalization.normalize_total:NormalizeTotal",
    "sample": "quality.sample:Sample",
    "sqrt": "normalization.sqrt:Sqrt",
    "log1p": "normalization.log1p:Log1p",
    "highly_variable_genes": "genes.highly_variable:HighlyVariable",
    "highly_variable_genes_v3": "genes.highly_variable_counts:HighlyVariableCounts",
    "highly_variable_genes_residuals": "genes.highly_variable_residuals:HighlyVariableResiduals",
    "normalize_pearson_residuals": "normalization.pearson_residuals:PearsonResiduals",
    "regress_out": "normalization.regress_out:RegressOut",
    "scale": "normalization.scale:Scale",
    "gene_gate": "genes.gene_gate:GeneGate",
    "pca": "components.pca:PCA",
    "vae_normalize": "counts.vae:VAENormalize",
    "combat": "batch.combat:Combat",
    "harmony": "batch.harmony.harmony:Harmony",
    "neighbors": "graph.neighbors:Neighbors",
    "summarize_to_gene": "abundance.gene_summary:SummarizeToGene",
    "quantify": "abundance.quantify:Quantify",
    "grn": "regulation.grn:GRN",
    "grn_activity": "regulation.activity:GRNActivity",
    "gene_tokens": "tokens.gene_tokens:GeneTokens",
    "moments": "dynamics.moments:Moments",
    "steady_state_velocity": "dynamics.steady_state:SteadyState",
    "stochastic_velocity": "dynamics.stochastic:StochasticVelocity",
    "velocity_graph": "dynamics.velocity_graph:VelocityGraph",
    "velocity_transitions": "dynamics.velocity_transitions:VelocityTransitions",
    "local_velocity": "dynamics.local_velocity:LocalVelocity",
    "recover_dynamics": "dynamics.recover_dynamics:RecoverDynamics",
    "count_dynamics": "dynamics.count_dynamics:CountDynamics",
    "dynamical_velocity": "dynamics.dynamical_velocity:DynamicalVelocity",
    "latent_time": "dynamics.latent_time:LatentTime",
    "terminal_states": "dynamics.terminal_states:TerminalStates",
    "velocity_pseudotime": "dynamics.velocity_pseudotime:VelocityPseudotime",
    "velocity_embedding": "dynamics.velocity_embedding:VelocityEmbedding",
    "velocity_confidence": "dynamics.velocity_confidence:VelocityConfidence",
    "umap": "layout.umap:UMAP",
    "parametric_umap": "layout.parametric_umap:ParametricUMAP",
    "diffmap": "diffusion.diffusion_map:DiffusionMap",
    "pseudotime": "diffusion.multiscale_pseudotime:MultiscalePseudotime",
    "dpt": "diffusion.pseudotime:DiffusionPseudotime",
    "alpha_decay": "diffusion.decay_graph:DecayGraph",
    "magic": "diffusion.magic:Magic",
    "phate": "diffusion.phate:Phate",
    "spatial_domains": "space.domains:SpatialDomains",
    "spatial_domains_gat": "space.attention_domains:AttentionDomains",
    "sequence_embedding": "sequence.embedding:SequenceEmbedding",
    "sequence_transformer": "sequence.transformer_encoder:TransformerSequenceEncoder",
    "hmm": "hmm.markov:HMM",
    "hmm_genes": "hmm.gene_markov:GeneHMM",
    "copy_number": "hmm.copy_number:CopyNumber",
    "communication": "signalling.communication:Communication",
    "leiden": "clusters.leiden:Leiden",
    "align_slices": "space.align_slices:AlignSlices",
    "center_slice": "space.center_slice:CenterSlice",
    "macrostates": "diffusion.macrostates:Macrostates",
    "fate_probabilities": "diffusion.fates:FateProbabilities",
    "marker_growth": "transport.marker_growth:MarkerGrowth",
    "ot_trajectory": "transport.trajectory:OTTrajectory",
    "ot_low_rank": "transport.low_rank_trajectory:OTLowRank",
    "ot_fates": "transport.fates:OTFates",
    "rank_genes_groups": "differential.rank_genes_groups:RankGenesGroups",
    "differential_distribution": "distribution.differential_distribution:DifferentialDistribution",
    "ligrec": "signalling.ligand_receptor:LigandReceptor",
    "switch_de": "switches.switch_de:SwitchDE",
    "nb_glm": "de.nb_glm:NBGLM",
    "vst": "de.vst:VST",
    "celltypist": "annotation.celltypist:CellTypist",
    "scanvi": "annotation.scanvi:ScANVI",
    "cellassign": "annotation.cellassign:CellAssign",
    "scrublet": "droplets.scrublet:Scrublet",
    "scrublet_calibrated": "droplets.calibrated:CalibratedDoublets",
    "solo": "droplets.solo:Solo",
    "remove_ambient": "droplets.ambient:RemoveAmbient",
    "mmd": "batch.mmd:MMD",
    "wgan": "batch.wgan:WGAN",
    "denoise": "counts.denoise:Denoise",
    "foundation_model": "foundation.foundation_model:FoundationModel",
    "score_genes": "annotation.score_genes:ScoreGenes",
    "score_genes_cell_cycle": "annotation.cell_cycle:CellCycle",
    "scanpy_function": "dbx.tl._scanpys:Scanpy",
    "dpt_branchings": "dbx.tl._branchings:DptBranchings",
    "label_head": "annotation.label_head:LabelHead",
    "soft_clusters": "clusters.soft_clusters:SoftClusters",
    "archetypes": "clusters.archetypes:Archetypes",
    "soft_kmeans": "clusters.soft_kmeans:SoftKMeans",
    "user_function": "user.function:Function",
}
"""Name -> module below ``dbx.ops`` and class of each operator of dbx; a full name where it calls another library."""
PACKAGE = "dbx-bio"
"""Name of dbx for pip."""


class Catalogue(Mapping[str, "type[Operator]"]):
    """Operator classes by name, each imported when it is first needed.

    Contains the operators of dbx, those of installed packages (entry points in the group ``dbx.operators``), and those
    registered in the session. Nothing else is imported, whatever names a file contains.
    """

    def __init__(self) -> None:
        self._loaded: dict[str, type[Operator]] = {}
        self._session: dict[str, type[Operator]] = {}

    def __getitem__(self, name: str) -> type[Operator]:
        if name in self._session:
            return self._session[name]
        if name not in self._loaded:
            self._loaded[name] = _own(name) if name in OPERATORS else load(name)
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in OPERATORS or name in self._loaded or name in self._session or name in installed()

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys((*OPERATORS, *installed(), *self._session)))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def register(self, operator: type[Operator]) -> type[Operator]:
        """Add an operator for this session, such as one defined in a notebook; also a class decorator.

        Raises
        ------
        ValueError
            dbx or an installed package has an operator of this name.
        """
        if operator.name not in self._session:
            self.provider(operator)
        self._session[operator.name] = operator
        return operator

    def provider(self, operator: type[Operator]) -> str:
        """The package of an operator as a pip requirement (``"dbx-bio==0.1.0"``); empty without a package.

        Raises
        ------
        ValueError
            Another operator has this name, so that a recorded step could not be rebuilt.
        """
        name = operator.name
        entries = () if name in OPERATORS else installed().get(name, ())
        if name in OPERATORS or entries or name in self._session:
            owner = self[name]
            if (owner.__module__, owner.__qualname__) != (operator.__module__, operator.__qualname__):
                msg = (
                    f"{operator.__module__}.{operator.__qualname__} has the same name {name!r} as "
                    f"{owner.__module__}.{owner.__qualname__}; choose another name."
                )
                raise ValueError(msg)
        if name in OPERATORS:
            return f"{PACKAGE}=={__version__}"
        return requirement(entries[0]) if entries else ""


def _own(name: str) -> type[Operator]:
    module, _, operator = OPERATORS[name].partition(":")
    return getattr(import_module(module if module.startswith("dbx.") else f"dbx.ops.{module}"), operator)


CATALOGUE = Catalogue()
