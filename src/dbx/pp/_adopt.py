"""Recognise what scanpy's preprocessing left in an AnnData, for ``dbx.adopt``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.ops.components.pca import PCA
from dbx.ops.genes.highly_variable import HighlyVariable
from dbx.ops.genes.highly_variable_counts import HighlyVariableCounts
from dbx.ops.normalization.log1p import Log1p
from dbx.ops.normalization.normalize_total import NormalizeTotal
from dbx.ops.normalization.scale import Scale
from dbx.ops.operator import Constant, Operator
from dbx.pp._adopt_checks import (
    clip_of,
    common_total,
    depth_of,
    gene_means,
    is_standardised,
    offset_of,
    sample,
)
from dbx.program.record.adopt import Adoption
from dbx.program.record.prints import print_of
from dbx.program.record.step import Step
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    import pandas as pd


UNDONE = 1e-3
"""Maximum error of values whose scaling was undone."""


def find(adoption: Adoption) -> None:
    """Look for each kind of result in the order of the usual workflow; the last step found wrote the present X."""
    finder = _Finder(adoption)
    for look in (finder.normalised, finder.variable, finder.scaled, finder.components):
        look()


class _Finder:
    def __init__(self, adoption: Adoption) -> None:
        self.adoption, self.adata = adoption, adoption.adata
        self._standardised: bool | None = None

    def normalised(self) -> None:
        """``normalize_total`` and ``log1p``: without logarithms cells have one total, or match the counts layer."""
        if "log1p" not in self.adata.uns or self.adoption.registry.writer("X") is not None:
            return
        base = self.adata.uns["log1p"].get("base")
        logged = self._before_scaling()
        depth, before = self._from_counts(logged, base)
        if depth is None:
            depth = common_total(logged, base)
        if depth is None:
            self.adoption.notes.append(
                "normalize_total and log1p (without logarithms, cells have no common total: genes were removed after "
                "normalising, X was clipped, or it was normalised in another way). The program starts at X as it is; "
                "new cells must be in the same state."
            )
            return
        total = NormalizeTotal(target_sum=depth)
        total.n_empty, total.depth = Constant(np.asarray(0)), Constant(np.asarray(depth, np.float64))
        self._record(total, None, {"x": "X"}, before=before)
        self._record(Log1p(base=base), self.adoption.registry.writer("X"), {"x": "X"})

    def variable(self) -> None:
        """``highly_variable_genes``: the flag and the statistics in var."""
        var = self.adata.var
        if "highly_variable" not in var or self.adoption.registry.writer("var/highly_variable") is not None:
            return
        flavor = self.adata.uns.get("hvg", {}).get("flavor", "seurat")
        counted = str(flavor).startswith("seurat_v3")
        n_genes = int(var["highly_variable"].sum())
        operator = (
            HighlyVariableCounts(flavor=flavor, n_top_genes=n_genes)
            if counted
            else HighlyVariable(flavor=flavor, n_top_genes=n_genes)
        )
        columns = [name for name in operator.outputs if name in var]
        for name in columns:
            setattr(operator, name, Constant(var[name].to_numpy()))
        source = next((step for step in self.adoption.registry if step.name == "log1p" and not counted), None)
        self._record(operator, source, {name: f"var/{name}" for name in columns})

    def scaled(self) -> None:
        """``scale``: ``var["std"]`` is there and X has standard deviation 1, and mean 0 if it was centred."""
        if not {"mean", "std"} <= set(self.adata.var) or self.adoption.registry.writer("var/std") is not None:
            return
        if not self._is_scaled():
            self.adoption.notes.append("scale (var['mean'] and var['std'] are there, but X is not standardised).")
            return
        values = sample(self.adata.X)
        centred = bool(values.min() < 0)
        operator = Scale(zero_center=centred, max_value=clip_of(values))
        operator.mean = Constant(self.adata.var["mean"].to_numpy(np.float64))
        operator.std = Constant(self.adata.var["std"].to_numpy(np.float64))
        self._record(operator, self.adoption.registry.writer("X"), {"x": "X", "mean": "var/mean", "std": "var/std"})

    def components(self) -> None:
        """``pca``: X times the loadings is ``obsm["X_pca"]`` up to a constant offset, from the means of the genes."""
        adata = self.adata
        if (
            "X_pca" not in adata.obsm
            or "PCs" not in adata.varm
            or self.adoption.registry.writer("obsm/X_pca") is not None
        ):
            return
        loadings = np.asarray(adata.varm["PCs"])
        about = adata.uns.get("pca", {})
        mask = np.abs(loadings).sum(axis=1) > 0
        embedding = np.asarray(adata.obsm["X_pca"])
        offset = offset_of(adata.X, loadings, embedding)
        if offset is None:
            self.adoption.notes.append(
                "pca (X times varm['PCs'] is not obsm['X_pca']: X or the cells were changed since)."
            )
            return
        centred = bool(about.get("params", {}).get("zero_center", True))
        operator = PCA(n_comps=loadings.shape[1], zero_center=centred)
        kept = loadings[mask]
        mean, *_ = np.linalg.lstsq(kept.T, -offset, rcond=None)  # any mean with these scores maps cells alike
        operator.mean = Constant(gene_means(adata.X)[mask] if centred else np.zeros(int(mask.sum())))
        shift = operator.mean[...] @ kept + offset
        if np.abs(shift).max() > 1e-3 * np.abs(embedding).max():
            operator.mean = Constant(mean)
        operator.components = Constant(kept)
        operator.residual = nnx.Param(jnp.zeros(kept.shape, jnp.float32))
        variance = np.asarray(about.get("variance", embedding.var(axis=0, ddof=1)))
        operator.explained = Constant(variance)
        operator.explained_share = Constant(np.asarray(about.get("variance_ratio", np.full(len(variance), np.nan))))
        writes = {"z": "obsm/X_pca", "loadings": "varm/PCs"}
        writes |= {name: f"uns/pca/{name}" for name in ("variance", "variance_ratio") if name in about}
        chosen = "highly_variable" in adata.var and np.array_equal(adata.var["highly_variable"].to_numpy(bool), mask)
        select = "var/highly_variable" if chosen else None
        self._record(operator, self.adoption.registry.writer("X"), writes, genes=adata.var_names[mask], select=select)

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _record(
        self,
        operator: Operator,
        source: Step | None,
        writes: Mapping[str, str],
        *,
        genes: pd.Index | None = None,
        select: str | None = None,
        before: np.ndarray | None = None,
    ) -> None:
        """Record a step that read the X written by ``source`` (None: the initial X).

        ``before`` is the fingerprint of its input, if that is known and X was overwritten since.
        """
        print_ = None
        if source is None and "X" in writes.values():
            print_ = before
        elif source is None and not self._is_scaled():
            print_ = self._print(Slot("X"))
        content = "counts" if before is not None else self._content(operator) if source is None else None
        self.adoption.record(operator, source, writes, print_, genes=genes, select=select, content=content)

    def _content(self, operator: Operator) -> str | None:
        """What X held before any recorded step, None where the operator takes counts and X is not counts any more."""
        if "counts" in operator.inputs["x"].content:
            return None
        values = self._before_scaling()
        values = values[np.isfinite(values)]
        if values.min(initial=0) < -UNDONE:
            return "fractional"
        if np.allclose(values, np.rint(values), atol=UNDONE):
            return "counts"
        return "log" if "log1p" in self.adata.uns else "fractional"

    def _print(self, slot: Slot) -> np.ndarray | None:
        return print_of(self.adata, slot, read(self.adata, slot))

    def _is_scaled(self) -> bool:
        if self._standardised is None:
            var = self.adata.var
            has = {"mean", "std"} <= set(var)
            self._standardised = has and is_standardised(self.adata.X, var["mean"].to_numpy(), var["std"].to_numpy())
        return self._standardised

    def _before_scaling(self) -> np.ndarray:
        """Log values of a sample of cells: X itself, raw, or X with scaling undone (NaN where it was clipped)."""
        if not self._is_scaled():
            return sample(self.adata.X)
        if self.adata.raw is not None and self.adata.raw.n_vars == self.adata.n_vars:
            return sample(self.adata.raw.X)
        values = sample(self.adata.X)
        clip = clip_of(values)
        mean = self.adata.var["mean"].to_numpy() if values.min() < 0 else 0.0
        undone = values * self.adata.var["std"].to_numpy() + mean
        return undone if clip is None else np.where(np.abs(values) >= clip, np.nan, undone)

    def _from_counts(self, logged: np.ndarray, base: float | None) -> tuple[float | None, np.ndarray | None]:
        """The total that cells were scaled to and the fingerprint of the counts layer, if X was made from one."""
        for name, layer in self.adata.layers.items():
            if name is None or layer.shape != self.adata.shape:
                continue
            counts = sample(layer)
            if counts.min() >= 0 and np.array_equal(counts, np.rint(counts)):
                depth = depth_of(logged, counts, base)
                if depth is not None:
                    return depth, self._print(Slot("layers", (name,)))
        return None, None
