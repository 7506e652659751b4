"""Objectives that reconstruct values: heads, parameters of genes, and what replaces hidden values."""

from __future__ import annotations

import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.moments import moments
from dbx.losses import MaskedReconstruction, Poisson, Reconstruction
from dbx.ops.counts.count_head import CountHead
from dbx.ops.nn.linear_decoder import LinearDecoder
from dbx.program.replay.plan import read_versions
from dbx.program.slots.genes import gene_columns
from dbx.program.slots.slots import Slot, gene_names, read
from dbx.program.training.chain import Chain
from dbx.program.training.objective import Part


def head_of(part: Part) -> nnx.Module | None:
    """What judges an objective besides labels, and is trained with the steps."""
    objective, of_genes = part.objective, Slot.parse(part.slot).is_gene_matrix
    if isinstance(objective, Poisson):
        learned = [name for name, value in objective.per_gene.items() if value is None]
        return CountHead(decodes=not of_genes, learned=learned) if learned or not of_genes else None
    if isinstance(objective, Reconstruction) or (isinstance(objective, MaskedReconstruction) and not of_genes):
        return LinearDecoder()
    return None


def centres_of(chain: Chain, columns) -> dict[str, np.ndarray]:
    """Means of the inputs that values are dropped from, zero for counts, whose dropout is a zero count."""
    contents = {
        version: entry.content
        for step in chain.steps
        for entry in step.reads.values()
        for version in read_versions(chain.pipeline.registry, step, entry)
    }
    centres = {}
    for i, version in enumerate(chain.pipeline.plan.roots):
        x = columns[f"root{i}"]
        if isinstance(x, RowBlocks):
            counts = contents.get(version) in ("counts", "normalized")
            centres[f"root{i}"] = np.zeros(x.n_columns) if counts else moments(x).mean[0]
    return centres


def parameters_of_genes(data, chain: Chain, part: Poisson, slot: Slot) -> dict[str, np.ndarray]:
    """Parameters of the genes that are columns of ``var``, for the genes that the chain starts from."""
    genes, found = chain.pipeline.inputs[slot], {}
    for name, key in part.per_gene.items():
        if not isinstance(key, str):
            continue
        column = Slot("var", (key,), slot.mod)
        values = np.asarray(read(data, column), np.float32)
        chosen = None if genes is None else gene_columns(gene_names(data, slot), genes, chain.trained[0].name, "raise")
        found[name] = values if chosen is None else values[chosen]
        wrong = ~(found[name] > 0) if name == "theta" else ~((found[name] >= 0) & np.isfinite(found[name]))
        if wrong.any() or (name == "inflation" and (found[name] >= 1).any()):
            msg = f"{column.written()} must hold valid values of {name} for all genes; got {found[name][wrong][:1]}."
            raise ValueError(msg)
    return found


def mean_variance(x: RowBlocks) -> float:
    """Mean of the variances of the columns."""
    return max(float(moments(x).variance[0].mean()), 1e-12)
