"""Slices of tissue in one frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from dbx.ops.checks import check_known
from dbx.ops.space.align_slices import AlignSlices
from dbx.ops.space.center_slice import CenterSlice
from dbx.program import check_key, coordinates_slot, matrix_slot, resolve_seed, run_step

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from anndata import AnnData
    from mudata import MuData

KEY = "spatial_aligned"
METHODS = ("pairwise", "center")


def align_slices(
    adata: AnnData | MuData,
    slice_key: str,
    *,
    spatial_key: str = "spatial",
    use_rep: str | None = None,
    layer: str | None = None,
    reference: str | None = None,
    method: Literal["pairwise", "center"] = "pairwise",
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
    key_added: str = KEY,
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Rotate and shift slices of tissue into one frame, by expression and distances within slices (PASTE).

    Spots of two slices are coupled by fused Gromov-Wasserstein transport: the coupling P with uniform masses that
    minimises (1 - alpha) sum_ij M_ij P_ij + alpha sum_ijkl (C_ik - D_jl)^2 P_ij P_kl, where M is the Kullback-Leibler
    divergence of profiles (counts and 0.01, normalised) and C and D are Euclidean distances within the slices, in units
    of ``spatial``. It is found by conditional gradients with exact transport from several starts. Slices that show
    different parts of the tissue are recognised: spots are matched by expression, a rigid map is fitted to the matches
    that agree with each other, and only so much of the mass is transported as the slices overlap. The second slice is
    then moved by the rigid map that fits the coupled spots best (weighted Procrustes). Slices are not mirrored unless
    ``allow_reflection``.

    With ``method="center"`` all are aligned with a centre slice, whose expression is fitted to them: it has the spots
    of the reference, and for them ``n_components`` non-negative factors of the mean counts of the spots coupled with
    each, of least Kullback-Leibler divergence. Alignment and factorisation alternate until the objective
    changes by less than a thousandth. The reference's own spots are coupled with themselves. The centre has less noise
    than any of the slices; :func:`dbx.get.center_slice` returns it.

    :func:`dbx.rerun` aligns a new slice with the reference or centre slice, whose profiles the program stores.

    Zeira et al., Nature Methods 2022; for partial overlap Liu, Zeira and Raphael, Genome Research 2023.

    Parameters
    ----------
    adata
        Annotated data with counts and positions of all slices.
    slice_key
        Column of ``obs`` with the slice of each spot.
    spatial_key
        Entry of ``obsm`` with the positions, in two or three dimensions.
    use_rep
        Entry of ``obsm`` in which Euclidean distances take the place of divergences of counts.
    layer
        Layer with counts instead of ``X``.
    reference
        Slice with which each of the others is aligned. By default each slice is aligned with the one before it, in the
        order of the categories, and all are moved into the frame of the first. With ``method="center"`` the slice whose
        spots are those of the centre, by default the first.
    method
        ``"pairwise"``, or ``"center"`` to align all slices with a centre slice that is fitted to them.
    n_components
        Number of factors of the centre slice.
    slice_weights
        Weight of each slice in the centre slice; by default all have the same.
    max_rounds
        Maximum number of alignments of all slices with the centre slice.
    alpha
        Weight of the distances within slices against expression, from 0 to 1.
    overlap
        Fraction of the slices' mass that is coupled: 1 if they show the same piece of tissue, or ``"auto"``.
    allow_reflection
        Slices may be mirrored.
    n_init
        Number of starts. By default two and, where their objectives differ by more than a hundred-thousandth, four
        more, of which those that are best after two iterations go on; slices of more than 1,500 spots start from where
        500 of their spots led.
    refine
        With partial overlap, couple spots by expression and by how far from each other the fitted map puts them,
        alternating with the fit. Otherwise the coupling is that of partial fused Gromov-Wasserstein transport.
    max_iterations
        Maximum number of iterations of a start; the alternation of ``refine`` has at most 50 rounds.
    tol
        Relative change of the objective in one iteration at which they stop.
    allow_unconverged
        Keep a result that has not converged, which is an error otherwise.
    key_added
        Key of the aligned positions in ``obsm``.
    random_state
        Seed of the search for a partial overlap, of the spots on which large slices are first aligned, and of the
        factors of the centre slice.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes, where ``key`` is ``"align_slices"`` or ``key_added`` if it is passed:

    ``obsm[key_added]``
        Positions in the frame of the first slice or of the reference, float64.
    ``uns[key]["rotation"]``, ``uns[key]["shift"]``
        For each slice in the order of the categories: aligned = rotation @ position + shift.
    ``uns[key]["pairs"]``
        One row for each pair: slices, overlap, objective, relative change of the objective in the last iteration (with
        ``refine`` and a partial overlap how far, in spacings of spots, it moved a spot), largest relative error of the
        marginals, iterations, and whether they converged.
    ``uns[key]["starts"]``
        Objective at which each start ended.
    ``uns[key]["coupling"]``
        Mass that spots share, one row for each entry: numbers of the pair and of the two cells, from 0, and the mass;
        :func:`dbx.get.align_slices` makes matrices of it.

    ``uns[key]["center_spots"]``, ``uns[key]["center_genes"]``, ``uns[key]["center_positions"]``
        With ``method="center"``: factors W and H, whose product is the expression of the centre slice (spots x genes,
        in counts), and the positions of its spots.
    ``uns[key]["rounds"]``
        With ``method="center"``: mean objective of the slices after each round.

    Raises
    ------
    KeyError
        There are no such positions, representation or slices.
    ValueError
        There is one slice only, a slice has fewer than three spots, positions that are not finite or mostly the same,
        or no gene with counts in common with the other; a setting is out of its range; the alignment or the centre
        slice has not converged; ``use_rep`` is passed with ``method="center"``, or ``slice_weights`` without it.

    Examples
    --------
    >>> import dbx
    >>> adata = dbx.datasets.simulate(80, 50, 3, 1, seed=0)
    >>> adata.obsm["spatial"] = [[i % 8, i // 8 % 5] for i in range(80)]
    >>> adata.obs["slice"] = ["a"] * 40 + ["b"] * 40
    >>> dbx.tl.align_slices(adata, "slice", overlap=1.0)
    >>> adata.obsm["spatial_aligned"].shape
    (80, 2)
    """
    check_key(key_added)
    key = "align_slices" if key_added == KEY else key_added
    check_known(method, METHODS, "method")
    if method == "center" and use_rep is not None:
        msg = 'method="center" fits expression to counts; remove use_rep (layer=... names a layer with counts).'
        raise ValueError(msg)
    if method != "center" and slice_weights is not None:
        msg = 'slice_weights are of the centre slice: pass method="center", or leave them out.'
        raise ValueError(msg)
    dissimilarity: Literal["kl", "euclidean"] = "kl" if use_rep is None else "euclidean"
    slot = matrix_slot(layer) if use_rep is None else coordinates_slot(adata, use_rep, mod=mod)
    settings: dict[str, Any] = {
        "reference": reference,
        "alpha": alpha,
        "overlap": overlap,
        "allow_reflection": allow_reflection,
        "n_init": n_init,
        "refine": refine,
        "max_iterations": max_iterations,
        "tol": tol,
        "allow_unconverged": allow_unconverged,
    }
    operator: AlignSlices
    if method == "center":
        operator = CenterSlice(
            n_components=n_components, slice_weights=slice_weights, max_rounds=max_rounds, **settings
        )
    else:
        operator = AlignSlices.declared({"dissimilarity": dissimilarity})(dissimilarity=dissimilarity, **settings)
    return run_step(
        adata,
        operator,
        reads={"x": slot, "spatial": f"obsm/{spatial_key}", "slices": f"obs/{slice_key}"},
        writes={
            "aligned": f"obsm/{key_added}",
            **{name: f"uns/{key}/{name}" for name in operator.outputs if name != "aligned"},
        },
        seed=resolve_seed(random_state, None),
        copy=copy,
        mod=mod,
    )
