"""Plots that scanpy does not have; every other one is scanpy's own, since dbx writes scanpy's keys."""

from typing import TYPE_CHECKING

from dbx._lazy import lazy

if TYPE_CHECKING:
    from dbx.pl.archetypes import archetypes
    from dbx.pl.before_after import before_after
    from dbx.pl.communication import communication
    from dbx.pl.copy_number import copy_number
    from dbx.pl.counts import counts
    from dbx.pl.differential_distribution import differential_distribution
    from dbx.pl.dispersions import dispersions
    from dbx.pl.fate import fate
    from dbx.pl.fate_circular import fate_circular
    from dbx.pl.gates import gates
    from dbx.pl.grn import grn
    from dbx.pl.history import history
    from dbx.pl.hmm import hmm
    from dbx.pl.ligrec import ligrec
    from dbx.pl.ma import ma
    from dbx.pl.magic_t import magic_t
    from dbx.pl.masked_fit import masked_fit
    from dbx.pl.ot_fates import ot_fates
    from dbx.pl.ot_growth import ot_growth
    from dbx.pl.ot_transition import ot_transition
    from dbx.pl.phate_entropy import phate_entropy
    from dbx.pl.program import program
    from dbx.pl.pvalues import pvalue_hist, pvalue_qq
    from dbx.pl.qc_weights import qc_weights
    from dbx.pl.quantify import quantify
    from dbx.pl.scrublet_score_distribution import scrublet_score_distribution
    from dbx.pl.sensitivity import sensitivity
    from dbx.pl.sequence_saliency import sequence_saliency
    from dbx.pl.size_factors import size_factors
    from dbx.pl.slices import slices
    from dbx.pl.spatial_domains import spatial_domains
    from dbx.pl.switch_de import switch_de
    from dbx.pl.switch_heatmap import switch_heatmap
    from dbx.pl.velocity_phase import velocity_phase
    from dbx.pl.velocity_stream import velocity_stream
    from dbx.pl.volcano import volcano

__all__ = [
    "archetypes",
    "before_after",
    "communication",
    "copy_number",
    "counts",
    "differential_distribution",
    "dispersions",
    "fate",
    "fate_circular",
    "gates",
    "grn",
    "history",
    "hmm",
    "ligrec",
    "ma",
    "magic_t",
    "masked_fit",
    "ot_fates",
    "ot_growth",
    "ot_transition",
    "phate_entropy",
    "program",
    "pvalue_hist",
    "pvalue_qq",
    "qc_weights",
    "quantify",
    "scrublet_score_distribution",
    "sensitivity",
    "sequence_saliency",
    "size_factors",
    "slices",
    "spatial_domains",
    "switch_de",
    "switch_heatmap",
    "velocity_phase",
    "velocity_stream",
    "volcano",
]

lazy(__name__, {name: name for name in __all__} | {"pvalue_hist": "pvalues", "pvalue_qq": "pvalues"}, scanpys="passed")
