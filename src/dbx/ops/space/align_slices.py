"""Slices of tissue brought into one frame."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.threads import one_blas_thread
from dbx.ops.checks import (
    check_above_zero,
    check_known,
    check_share,
    check_whole,
    check_whole_or_auto,
    listed,
)
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Text, silent, text_of
from dbx.ops.space.align_pair import Aligned, Settings, Slice, align, realign
from dbx.ops.space.differentiable_maps import composed, pair_maps
from dbx.ops.space.fused_objective import distance_term, expression_term
from dbx.ops.space.rigid import Rigid, identity
from dbx.ops.space.slice_checks import check_overlap, check_points, check_shared, check_spots
from dbx.ops.space.slice_tables import START_NAMES, SUMMARY, pair_table, start_table
from dbx.ops.values import Array, Codes, Frame

KINDS = ("kl", "euclidean")
SMALL = 1 << 20
"""Pairs of spots below which threads of matrix products only wait for each other."""


class AlignSlices(Operator):
    """Rotation and shift of each slice into the frame of one of them, by fused Gromov-Wasserstein transport (PASTE).

    Called with cells of fitted slices, it moves them by the stored maps. Derivatives of all cells together pass through
    the rigid fit at the fitted coupling.

    New cells: moved by the map of their slice; a new slice is aligned with the reference slice, and recorded so.
    """

    name = "align_slices"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",), empty_cells="warn"),
        "spatial": Input(),
        "slices": Input(kind="codes", unseen="extend"),
    }
    outputs: ClassVar = {
        "aligned": Output(dtype="float64"),
        "rotation": Output(axis="none", dtype=None, view=True),
        "shift": Output(axis="none", dtype=None, view=True),
        "pairs": Output(axis="none", dtype=None, view=True),
        "starts": Output(axis="none", dtype=None, view=True),
        "coupling": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True
    of_all_cells = True
    precision = "float64"

    def __init__(
        self,
        *,
        dissimilarity: Literal["kl", "euclidean"] = "kl",
        reference: str | None = None,
        alpha: float = 0.1,
        overlap: float | Literal["auto"] = "auto",
        allow_reflection: bool = False,
        n_init: int | Literal["auto"] = "auto",
        refine: bool = True,
        max_iterations: int = 1000,
        tol: float = 1e-9,
        allow_unconverged: bool = False,
    ):
        check_known(dissimilarity, KINDS, "dissimilarity")
        check_share(alpha, "alpha")
        if overlap != "auto":
            check_overlap(overlap)
        check_whole_or_auto(n_init, 1, "n_init")
        check_whole(max_iterations, 1, "max_iterations")
        check_above_zero(tol, "tol")
        self.dissimilarity = dissimilarity
        self.reference = reference
        self.alpha = alpha
        self.overlap = overlap
        self.allow_reflection = allow_reflection
        self.n_init = n_init
        self.refine = refine
        self.max_iterations = max_iterations
        self.tol = tol
        self.allow_unconverged = allow_unconverged

    @classmethod
    def declared(cls, config: Mapping[str, Any]) -> type[AlignSlices]:
        """With distances in a representation, its columns are not counts of genes."""
        return _of_representation() if config.get("dissimilarity") == "euclidean" else cls

    def fit(
        self, *, x: RowBlocks, spatial: RowBlocks, slices: Codes, seed: int = 0, progress: Progress = silent
    ) -> None:
        """Align each slice with the one before it, or with the reference."""
        codes = np.asarray(slices.codes)
        self._check_levels(slices)
        chain = self._chain(slices)
        kept: dict[int, Slice] = {}
        maps = {chain[0][0]: identity(spatial.n_columns)}
        found = []
        for done, (first, second) in enumerate(chain):
            progress(done, len(chain), f"slice {slices.levels[second]!r}")
            for code in (first, second):
                kept.setdefault(code, self._slice(x, spatial, codes == code, slices.levels[code]))
            aligned = self._aligned(kept[first], kept[second], slices.levels[second], seed)
            maps[second] = maps[first].after(aligned.map)
            found.append(aligned)
            if self._chained and first != chain[0][0]:
                del kept[first]
        self._keep_maps([maps[code] for code in range(len(slices.levels))])
        self._keep_pairs(found, chain, slices)
        self._keep_reference(kept[chain[0][0]])

    @property
    def _chained(self) -> bool:
        """Each slice is aligned with the one before it."""
        return self.reference is None

    def _check_levels(self, slices: Codes) -> None:
        if slices.n_levels < 2:
            msg = f"Slices are aligned with each other, and there is only one: {listed(slices.levels)}."
            raise ValueError(msg)
        counts = np.bincount(np.asarray(slices.codes), minlength=slices.n_levels)
        check_spots(dict(zip(slices.levels, counts.tolist(), strict=True)))
        if self.reference is not None and self.reference not in slices.levels:
            msg = f"reference must be one of the slices, {listed(slices.levels)}; got {self.reference!r}."
            raise ValueError(msg)

    def _chain(self, slices: Codes) -> list[tuple[int, int]]:
        """Pairs of slices, the second of which is moved; the first of all is the frame."""
        if self._chained:
            return [(i, i + 1) for i in range(slices.n_levels - 1)]
        frame = 0 if self.reference is None else slices.levels.index(self.reference)
        return [(frame, i) for i in range(slices.n_levels) if i != frame]

    def _slice(self, x: RowBlocks, spatial: RowBlocks, rows: np.ndarray, name: str) -> Slice:
        points = RowBlocks(spatial, dtype=np.float64).dense(np.flatnonzero(rows))
        profiles = x.rows(np.flatnonzero(rows))
        check_points(points, name)
        if self.dissimilarity == "kl":
            profiles = sparse.csr_matrix(profiles, dtype=np.float32)
        return Slice(profiles, points)

    def _aligned(self, first: Slice, second: Slice, name: str, seed: int, before: Aligned | None = None) -> Aligned:
        if self.dissimilarity == "kl":
            check_shared(first.profiles, second.profiles, name)
        small = len(first.points) * len(second.points) < SMALL
        with one_blas_thread() if small else contextlib.nullcontext():
            if before is None:
                found = align(first, second, self._settings, seed)
            else:
                found = realign(first, second, self._settings, before)
        if not found.converged and not self.allow_unconverged:
            more = "refine=False" if self.refine and found.overlap < 1 else "a larger max_iterations or tol"
            msg = (
                f"The alignment of slice {name!r} has not converged in {found.n_iterations} iterations (last change "
                f"{found.change:.2g}). Pass {more}, overlap=1.0 if the slices show the same "
                "piece of tissue, or allow_unconverged=True to use it all the same."
            )
            raise ValueError(msg)
        return found

    @property
    def _settings(self) -> Settings:
        return Settings(
            self.dissimilarity,
            self.alpha,
            self.overlap,
            self.allow_reflection,
            self.n_init,
            self.refine,
            self.max_iterations,
            self.tol,
        )

    def __call__(self, x: Array | None, spatial: Array, slices: Codes) -> dict[str, Any]:
        """Positions in the common frame, an array of shape (n_cells, n_dims)."""
        del x
        rotations, shifts = jnp.asarray(self.rotations[...]), jnp.asarray(self.shifts[...])
        return {"aligned": _moved(jnp, rotations, shifts, spatial, slices.codes)}

    def on_host(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The same by NumPy, without reading profiles."""
        points = RowBlocks(inputs["spatial"], dtype=np.float64).dense()
        rotations, shifts = np.asarray(self.rotations[...]), np.asarray(self.shifts[...])
        return {"aligned": _moved(np, rotations, shifts, points, np.asarray(inputs["slices"].codes))}

    def together(self, x: Array | None, spatial: Array, slices: Codes) -> dict[str, Any]:
        """Positions of all fitted cells; the maps are functions of all positions, at the fitted coupling."""
        del x
        pair, first, second = (jnp.asarray(row) for row in self.coupled[...])
        weights = jnp.asarray(self.masses[...][1], spatial.dtype)
        chain = jnp.asarray(self.chain[...])
        found = pair_maps(spatial, pair, first, second, weights, len(chain), reflect=self.allow_reflection)
        if self._chained:
            found = composed(*found)
        kept = (jnp.asarray(v[...], spatial.dtype) for v in (self.rotations, self.shifts))
        rotations, shifts = (old.at[chain[:, 1]].set(new) for old, new in zip(kept, found, strict=True))
        return {"aligned": _moved(jnp, rotations, shifts, spatial, slices.codes)}

    def objective(self, x: Array, spatial: Array) -> Array:
        """The FGW objective of each pair at the fitted coupling, of profiles and positions of all fitted cells.

        Its gradients are those of the least objective, as the coupling is a stationary point (envelope theorem).
        """
        pair, first, second = np.asarray(self.coupled[...])
        values = []
        for number in range(len(self.chain)):
            some = pair == number
            i, j, mass = first[some], second[some], np.asarray(self.masses[...])[0][some]
            values.append(
                (1 - self.alpha) * expression_term(self._partners(x, i), x[j], mass, self.dissimilarity)
                + self.alpha * distance_term(spatial[i], spatial[j], mass)
            )
        return jnp.stack(values)

    def _partners(self, x: Array, rows: np.ndarray) -> Array:
        """Profiles with which those of the moved slices are compared, for rows of the slices that stay."""
        return x[rows]

    def extend(self, *, x: RowBlocks, spatial: RowBlocks, slices: Codes, seed: int = 0, progress: Progress = silent):
        """Align slices that were not in the fit with the reference slice; the others are unchanged."""
        codes = np.asarray(slices.codes)
        maps = [
            Rigid(*both) for both in zip(np.asarray(self.rotations[...]), np.asarray(self.shifts[...]), strict=True)
        ]
        for code in range(len(maps), slices.n_levels):
            name = slices.levels[code]
            check_spots({name: int((codes == code).sum())})
            new = self._slice(x, spatial, codes == code, name)
            maps.append(self._aligned(self._reference(), new, name, seed).map)
        self._keep_maps(maps)

    @property
    def rotation(self) -> np.ndarray:
        """Array of shape (n_slices, n_dims, n_dims)."""
        return np.asarray(self.rotations[...])

    @property
    def shift(self) -> np.ndarray:
        """Array of shape (n_slices, n_dims)."""
        return np.asarray(self.shifts[...])

    @property
    def pairs(self) -> Frame:
        """How well each pair of slices was aligned."""
        return pair_table(self._levels, np.asarray(self.chain[...]), np.asarray(self.summary[...]))

    @property
    def starts(self) -> Frame:
        """Objective at which the starts of each pair ended."""
        pair, start = np.asarray(self.started[...])
        return start_table(self._levels, np.asarray(self.chain[...])[pair], start, np.asarray(self.ended[...]))

    @property
    def coupling(self) -> Frame:
        """Mass that each spot shares with spots of the other slice, by numbers of the pair and the cells."""
        pair, first, second = np.asarray(self.coupled[...]).astype(np.int64)
        return Frame(
            {"pair": pair, "first": first, "second": second, "mass": np.asarray(self.masses[...])[0]}, rows=None
        )

    @property
    def _levels(self) -> tuple[str, ...]:
        return tuple(text_of(self.names).split("\n"))

    def _keep_maps(self, maps: list[Rigid]) -> None:
        self.rotations = Constant(np.stack([found.rotation for found in maps]))
        self.shifts = Constant(np.stack([found.shift for found in maps]))

    def _keep_pairs(self, found: list[Aligned], chain: list[tuple[int, int]], slices: Codes) -> None:
        codes = np.asarray(slices.codes)
        self.names = Text("\n".join(slices.levels))
        self.chain = Constant(np.array(chain, np.int32))
        self.summary = Constant(np.array([[float(getattr(one, name)) for name in SUMMARY] for one in found]))
        starts = [(number, START_NAMES.index(name)) for number, one in enumerate(found) for name in one.starts]
        self.started = Constant(np.array(starts, np.int32).T)
        self.ended = Constant(np.array([value for one in found for value in one.starts.values()]))
        coupled, masses = [], []
        for number, (one, (first, second)) in enumerate(zip(found, chain, strict=True)):
            plan = one.plan.tocoo()
            rows, columns = np.flatnonzero(codes == first)[plan.row], np.flatnonzero(codes == second)[plan.col]
            coupled.append(np.stack([np.full(plan.nnz, number), rows, columns]))
            masses.append(np.stack([plan.data, one.weights]))
        self.coupled = Constant(np.concatenate(coupled, axis=1).astype(np.int32))
        self.masses = Constant(np.concatenate(masses, axis=1))

    def _keep_reference(self, kept: Slice) -> None:
        self.reference_points = Constant(kept.points)
        if self.dissimilarity == "euclidean":
            self.reference_profiles = Constant(np.asarray(kept.profiles, np.float64))
            return
        profiles = kept.profiles
        self.reference_counts = Constant(profiles.data)
        self.reference_genes = Constant(profiles.indices.astype(np.int32))
        self.reference_rows = Constant(profiles.indptr.astype(np.int64))
        self.n_genes = Constant(np.int64(profiles.shape[1]))

    def _reference(self) -> Slice:
        points = np.asarray(self.reference_points[...])
        if self.dissimilarity == "euclidean":
            return Slice(np.asarray(self.reference_profiles[...]), points)
        kept = self.reference_counts, self.reference_genes, self.reference_rows
        shape = len(points), int(self.n_genes[...])
        return Slice(sparse.csr_matrix(tuple(np.asarray(v[...]) for v in kept), shape=shape), points)


def _moved(xp, rotations: Array, shifts: Array, points: Array, codes: Array) -> Array:
    return xp.einsum("nij,nj->ni", rotations[codes], points) + shifts[codes]


@cache
def _of_representation() -> type[AlignSlices]:
    """The class for distances in a representation."""
    inputs = {**AlignSlices.inputs, "x": Input()}
    body = {"inputs": inputs, "__module__": __name__, "__qualname__": AlignSlices.__qualname__}
    return type(AlignSlices.__name__, (AlignSlices,), body)
