"""Slices of tissue brought into the frame of a centre slice, whose expression is fitted to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import jax.numpy as jnp
import numpy as np
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.ops.checks import check_above_zero, check_whole, listed
from dbx.ops.operator import Constant, Output, Progress, silent
from dbx.ops.space.align_pair import Aligned, Slice
from dbx.ops.space.align_slices import AlignSlices
from dbx.ops.space.center_mixture import Factors, factorised, mixture
from dbx.ops.space.rigid import identity
from dbx.ops.space.slice_checks import check_shared
from dbx.ops.values import Array, Codes, Frame

SETTLED = 1e-3
"""Relative change of the objective in one round at which the rounds stop."""


class CenterSlice(AlignSlices):
    """Rotation and shift of each slice into the frame of a centre slice that is fitted to all of them (PASTE).

    The centre has the positions of one of the slices, and as expression a non-negative factorisation of the mean of the
    spots coupled with each of its spots. Fitting it and aligning the slices with it alternate.

    New cells: moved by the map of their slice; a new slice is aligned with the stored centre, which stays as it is.
    """

    name = "center_slice"
    outputs: ClassVar = {
        **AlignSlices.outputs,
        "center_spots": Output(axis="none", dtype=None, view=True),
        "center_genes": Output(axis="none", dtype=None, view=True),
        "center_positions": Output(axis="none", dtype=None, view=True),
        "rounds": Output(axis="none", dtype=None, view=True),
    }

    def __init__(
        self,
        *,
        reference: str | None = None,
        n_components: int = 15,
        slice_weights: Mapping[str, float] | None = None,
        max_rounds: int = 20,
        alpha: float = 0.1,
        overlap: float | Literal["auto"] = "auto",
        allow_reflection: bool = False,
        n_init: int | Literal["auto"] = "auto",
        refine: bool = True,
        max_iterations: int = 1000,
        tol: float = 1e-9,
        allow_unconverged: bool = False,
    ):
        super().__init__(
            reference=reference,
            alpha=alpha,
            overlap=overlap,
            allow_reflection=allow_reflection,
            n_init=n_init,
            refine=refine,
            max_iterations=max_iterations,
            tol=tol,
            allow_unconverged=allow_unconverged,
        )
        check_whole(n_components, 1, "n_components")
        check_whole(max_rounds, 1, "max_rounds")
        for slice_name, weight in (slice_weights or {}).items():
            check_above_zero(weight, f"slice_weights[{slice_name!r}]")
        self.n_components = n_components
        self.slice_weights = slice_weights
        self.max_rounds = max_rounds

    def fit(
        self, *, x: RowBlocks, spatial: RowBlocks, slices: Codes, seed: int = 0, progress: Progress = silent
    ) -> None:
        """Align all slices with the centre and fit the centre to them, in turns."""
        codes, levels = np.asarray(slices.codes), slices.levels
        self._check_levels(slices)
        shares = self._shares(slices)
        chain = self._chain(slices)
        frame = chain[0][0]
        kept = [self._slice(x, spatial, codes == code, name) for code, name in enumerate(levels)]
        for name, one in zip(levels, kept, strict=True):
            check_shared(kept[frame].profiles, one.profiles, name)
        factors = factorised(kept[frame].profiles, self.n_components, seed)
        found: dict[int, Aligned] = {}
        values: list[float] = []
        while not _settled(values) and len(values) < self.max_rounds:
            if found:
                factors = self._centered(kept, found, frame, shares, factors, seed)
            center = Slice(factors.product, kept[frame].points)
            for done, (_, code) in enumerate(chain):
                progress(done, len(chain), f"round {len(values) + 1}, slice {levels[code]!r}")
                found[code] = self._aligned(center, kept[code], levels[code], seed, found.get(code))
            values.append(float(sum(shares[code] * one.objective for code, one in found.items())))
        self._check_settled(values)
        maps = {code: one.map for code, one in found.items()}
        self._keep_maps([maps.get(code, identity(spatial.n_columns)) for code in range(len(levels))])
        self._keep_pairs([found[code] for _, code in chain], chain, slices)
        self._keep_center(factors, kept[frame].points, np.flatnonzero(codes == frame))
        self.values = Constant(np.array(values))

    @property
    def _chained(self) -> bool:
        return False

    def _shares(self, slices: Codes) -> np.ndarray:
        if self.slice_weights is None:
            return np.full(slices.n_levels, 1 / slices.n_levels)
        if set(self.slice_weights) != set(slices.levels):
            msg = (
                f"slice_weights must have a weight for each of the slices, {listed(slices.levels)}; got those of "
                f"{listed(self.slice_weights)}."
            )
            raise ValueError(msg)
        weights = np.array([self.slice_weights[name] for name in slices.levels], np.float64)
        return weights / weights.sum()

    def _centered(
        self, kept: list[Slice], found: dict[int, Aligned], frame: int, shares: np.ndarray, before: Factors, seed: int
    ) -> Factors:
        """The centre's spots are those of the frame, which are coupled with themselves."""
        n = len(kept[frame].points)
        plans = {code: one.plan for code, one in found.items()}
        plans[frame] = sparse.csr_matrix(sparse.eye_array(n) / n)
        counts = [one.profiles for one in kept]
        mixed = mixture(counts, [plans[code] for code in range(len(kept))], shares.tolist())
        return factorised(mixed, self.n_components, seed, before)

    def _check_settled(self, values: list[float]) -> None:
        if not _settled(values) and not self.allow_unconverged:
            msg = (
                f"The centre slice has not converged in {len(values)} rounds (objectives {listed(values[-3:])}). Pass "
                "a larger max_rounds, or allow_unconverged=True to use it all the same."
            )
            raise ValueError(msg)

    def _keep_center(self, factors: Factors, points: np.ndarray, rows: np.ndarray) -> None:
        self.weights = Constant(factors.weights)
        self.factors = Constant(factors.genes)
        self.reference_points = Constant(points)
        self.rows = Constant(rows.astype(np.int32))

    def _reference(self) -> Slice:
        factors = Factors(np.asarray(self.weights[...]), np.asarray(self.factors[...]))
        return Slice(factors.product, np.asarray(self.reference_points[...]))

    def _partners(self, x: Array, rows: np.ndarray) -> Array:
        spots = np.searchsorted(np.asarray(self.rows[...]), rows)
        return (jnp.asarray(self.weights[...])[spots] @ jnp.asarray(self.factors[...])).astype(x.dtype)

    @property
    def center_spots(self) -> np.ndarray:
        """W, of shape (n_spots, n_components); expression of the centre slice is W H."""
        return np.asarray(self.weights[...])

    @property
    def center_genes(self) -> np.ndarray:
        """H, of shape (n_components, n_genes)."""
        return np.asarray(self.factors[...])

    @property
    def center_positions(self) -> np.ndarray:
        """Positions of the spots of the centre slice."""
        return np.asarray(self.reference_points[...])

    @property
    def rounds(self) -> Frame:
        """Mean objective of the slices after each round, weighted."""
        return Frame({"objective": np.asarray(self.values[...])}, rows=None)


def _settled(values: list[float]) -> bool:
    return len(values) > 1 and abs(values[-1] - values[-2]) <= SETTLED * abs(values[-1])
