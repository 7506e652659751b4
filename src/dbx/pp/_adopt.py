"""Recognise what scanpy's preprocessing left in an AnnData, for ``dbx.adopt``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
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
from dbx.pp._adopt_changes import find_changes
from dbx.pp._adopt_checks import (
    clip_of,
    common_total,
    depth_of,
    gene_means,
    is_standardised,
    offset_of,
    sample,
)
from dbx.pp._adopt_diffusion import find_diffusion
from dbx.pp._adopt_graph import find_harmony, find_neighbors
from dbx.pp._adopt_matrices import made_these_means, matrices
from dbx.program.record.prints import print_of
from dbx.program.record.step import Read, Step
from dbx.program.replay.adopt import Adoption
from dbx.program.slots.slots import Slot, read

if TYPE_CHECKING:
    import pandas as pd


UNDONE = 1e-3
"""Maximum error of values whose scaling was undone."""


def find(adoption: Adoption) -> None:
    """Look for each kind of result in the order of the usual workflow; the last step found wrote the present X."""
    find_changes(adoption)
    finder = _Finder(adoption)
    for look in (finder.normalised, finder.variable, finder.scaled, finder.components):
        look()
    find_harmony(adoption)
    find_neighbors(adoption)
    find_diffusion(adoption)


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
        x = Slot("X")
        self._record(total, None, {"x": "X"}, before=before, known={x: None})
        known = {x: self._print_of_logged()} if self._is_scaled() else None
        self._record(Log1p(base=base), self.adoption.registry.writer("X"), {"x": "X"}, known=known)

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
        chosen = self.adata.var_names[var["highly_variable"].to_numpy(bool)]
        writes = {name: f"var/{name}" for name in columns}
        for matrix in matrices(self.adoption) if "means" in var else ():
            if made_these_means(matrix.values, var["means"].to_numpy(np.float64)):
                reads = {"x": matrix.read}
                self.adoption.record(operator, reads, writes, outside=matrix.outside, chosen=chosen)
                return
        source = next((step for step in self.adoption.registry if step.name == "log1p" and not counted), None)
        self._record(operator, source, writes, chosen=chosen)

    def scaled(self) -> None:
        """``scale``: ``var["std"]`` is there and X has standard deviation 1, and mean 0 if it was centred."""
        if not {"mean", "std"} <= set(self.adata.var) or self.adoption.registry.writer("var/std") is not None:
            return
        if self.adoption.read_of(Slot("X"))[0].gap is not None:  # something else came before it, which is not known
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
        """``pca``: a matrix times the loadings is the embedding up to a constant offset, from the means of genes."""
        adata = self.adata
        keys = {"X_pca": ("PCs", "pca")} | {str(key): (str(key), str(key)) for key in adata.obsm if key in adata.uns}
        for key, (loadings, about) in keys.items():
            slot = Slot("obsm", (key,))
            if key not in adata.obsm or loadings not in adata.varm or self.adoption.read_of(slot)[0].source is not None:
                continue
            if not self._adopt_components(slot, loadings, about):
                self.adoption.notes.append(
                    f"pca (X times varm[{loadings!r}] is not obsm[{key!r}]: X or the cells were changed since)."
                )

    def _adopt_components(self, slot: Slot, key: str, about_key: str) -> bool:
        adata = self.adata
        loadings, embedding = np.asarray(adata.varm[key]), np.asarray(adata.obsm[slot.key])
        about = adata.uns.get(about_key, {})
        found = ((matrix, offset_of(matrix.values, loadings, embedding)) for matrix in matrices(self.adoption))
        matrix, offset = next(((m, offset) for m, offset in found if offset is not None), (None, None))
        if matrix is None or offset is None:
            return False
        mask = np.abs(loadings).sum(axis=1) > 0
        centred = bool(about.get("params", {}).get("zero_center", True))
        operator = PCA(n_comps=loadings.shape[1], zero_center=centred)
        kept = loadings[mask]
        mean, *_ = np.linalg.lstsq(kept.T, -offset, rcond=None)  # any mean with these scores maps cells alike
        operator.mean = Constant(gene_means(matrix.values)[mask] if centred else np.zeros(int(mask.sum())))
        shift = operator.mean[...] @ kept + offset
        if np.abs(shift).max() > 1e-3 * np.abs(embedding).max():
            operator.mean = Constant(mean)
        operator.components = Constant(kept)
        operator.residual = nnx.Param(jnp.zeros(kept.shape, jnp.float32))
        variance = np.asarray(about.get("variance", embedding.var(axis=0, ddof=1)))
        operator.explained = Constant(variance)
        operator.explained_share = Constant(np.asarray(about.get("variance_ratio", np.full(len(variance), np.nan))))
        writes = {"z": str(slot), "loadings": f"varm/{key}"}
        writes |= {name: f"uns/{about_key}/{name}" for name in ("variance", "variance_ratio") if name in about}
        chosen = "highly_variable" in adata.var and np.array_equal(adata.var["highly_variable"].to_numpy(bool), mask)
        select = "var/highly_variable" if chosen else None
        read_ = matrix.read
        if read_.source is None and read_.content is None:
            read_ = replace(read_, content=self._content(operator))
        genes = adata.var_names[mask]
        self.adoption.record(operator, {"x": read_}, writes, outside=matrix.outside, genes=genes, select=select)
        return True

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _record(
        self,
        operator: Operator,
        source: Step | None,
        writes: Mapping[str, str],
        *,
        before: np.ndarray | None = None,
        known: Mapping[Slot, np.ndarray | None] | None = None,
        chosen: pd.Index | None = None,
    ) -> None:
        """Record a step that read the X written by ``source`` (None: the initial X).

        ``before`` is the fingerprint of its input, if that is known and X was overwritten since.
        """
        print_, x = None, Slot("X")
        if source is None and "X" in writes.values():
            print_ = before
        elif source is None and not self._is_scaled():
            print_ = self._print(x)
        content = "counts" if before is not None else self._content(operator)
        held = content if source is None else source.content.get(x)
        entry = Read(slots=(x,), source=None if source is None else source.id, content=held)
        outside = {} if print_ is None else {x: print_}
        self.adoption.record(operator, {"x": entry}, writes, outside=outside, known=known, chosen=chosen)

    def _print_of_logged(self) -> np.ndarray | None:
        """Fingerprint of the logarithms where raw keeps them."""
        raw = self.adata.raw
        kept = raw is not None and raw.var_names.equals(self.adata.var_names)
        return print_of(self.adata, Slot("X"), raw.X) if kept else None

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
