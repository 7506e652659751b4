"""Where one slice lies on another of which it shows a part: matches by expression, a robust fit, and what overlaps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import sparse

from dbx.ops.space import rigid
from dbx.ops.space.exact_transport import Transport
from dbx.ops.space.rigid import Rigid

NEAR = 0.75
"""Spacings within which a spot of the other slice covers a spot: half the diagonal of a square grid is 0.71."""
AGREE = 1.5
"""Spacings within which matched spots agree with a map."""
FULL = 0.9
"""Two slices of which so much covers each other are taken to overlap entirely, as outlines always differ a little."""
CLEAN = 0.9
"""Share of the mass between spots that a map puts within :data:`AGREE` spacings of each other, above which a balanced
coupling is that of entire slices: with nine tenths of one slice it was .82 at most, with different entire ones .945."""
SURE = 5.0
"""Standard errors of the likeness of unlike spots."""
STRETCHED = 0.25
"""Spacings between where matches and where a balanced coupling put a spot, above which a part of a slice is missing:
without one row of spots a balanced coupling is half a spacing off, without two rows one."""
N_ROUNDS = 50
STILL = 1e-3
"""Spacings that a round moves no spot by where it is the last one."""
LEAST_WIDTH = 0.25
"""Least standard deviation of the residual distances, in spacings."""


class Place(NamedTuple):
    """Where the second slice lies."""

    map: Rigid
    overlap: float
    evidence: float
    """Sum of the standardised likeness of the profiles of spots that lie on each other."""
    likeness: float
    """Its mean."""


class Refined(NamedTuple):
    """The last round of the alternation of transport and fit."""

    map: Rigid
    plan: sparse.csr_matrix
    weights: np.ndarray
    """Of the entries of the plan in the fit."""
    moved: float
    """Spacings by which it moved a spot at most."""
    n_rounds: int


def spacing_of(*slices: np.ndarray) -> float:
    """Median distance to the nearest other spot, in the slice where it is largest."""
    from scipy.spatial import cKDTree

    return max(float(np.median(cKDTree(points).query(points, 2)[0][:, 1])) for points in slices)


def standardised(dissimilarity: np.ndarray) -> np.ndarray:
    """Dissimilarities without the effects of rows and of columns, in standard deviations."""
    centred = dissimilarity - dissimilarity.mean(axis=1, keepdims=True)
    centred -= centred.mean(axis=0)
    return centred / max(float(centred.std()), np.finfo(float).tiny)


def matches(dissimilarity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each spot with the spot of the other slice that is most like it, for both slices."""
    n, m = dissimilarity.shape
    rows = np.concatenate([np.arange(n), dissimilarity.argmin(axis=0)])
    return rows, np.concatenate([dissimilarity.argmin(axis=1), np.arange(m)])


def place_of(found: Rigid, x: np.ndarray, y: np.ndarray, dissimilarity: np.ndarray) -> Place:
    """How much of the slices overlaps by a map, and how much alike are the spots that lie on each other."""
    return _place(found, x, y, standardised(dissimilarity), spacing_of(x, y))


def _place(found: Rigid, x: np.ndarray, y: np.ndarray, likeness: np.ndarray, spacing: float) -> Place:
    from scipy.spatial import cKDTree

    moved = found(y)
    to_x, nearest_x = cKDTree(x).query(moved)
    to_y, nearest_y = cKDTree(moved).query(x)
    on_x, on_y = to_x < NEAR * spacing, to_y < NEAR * spacing
    evidence = -likeness[nearest_x[on_x], on_x].sum() - likeness[on_y, nearest_y[on_y]].sum()
    n_pairs = on_x.sum() + on_y.sum()
    return Place(found, float(min(on_x.mean(), on_y.mean())), float(evidence), float(evidence / max(n_pairs, 1)))


def fits(place: Place, plan: sparse.csr_matrix, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether a balanced coupling moves no spot far from where its map puts it, among spots that are alike.

    Slices of which one lacks a part are stretched by it.
    """
    pairs = plan.tocoo()
    residual = np.linalg.norm(place.map(y)[pairs.col] - x[pairs.row], axis=1)
    near = pairs.data[residual < AGREE * spacing_of(x, y)].sum() / pairs.data.sum()
    return bool(place.overlap >= FULL and near > CLEAN and place.evidence > SURE * np.sqrt(len(x) + len(y)))


def agreeing(found: Rigid, x: np.ndarray, y: np.ndarray, dissimilarity: np.ndarray) -> float:
    """Fraction of matches by expression that a map puts within :data:`AGREE` spacings of each other.

    With more than a half, no other map has as many.
    """
    rows, columns = matches(dissimilarity)
    residual = np.linalg.norm(found(y)[columns] - x[rows], axis=1)
    return float((residual < AGREE * spacing_of(x, y)).mean())


def by_matches(place: Place, x: np.ndarray, y: np.ndarray, dissimilarity: np.ndarray, *, reflect: bool) -> Place:
    """The place nearby that matches by expression agree on."""
    rows, columns = matches(dissimilarity)
    masses = np.ones(len(rows))
    found, _ = rigid.reweighted(x[rows], y[columns], masses, place.map, spacing_of(x, y), reflect=reflect)
    return place_of(found, x, y, dissimilarity)


def stretched(place: Place, closer: Place, x: np.ndarray, y: np.ndarray) -> bool:
    """Whether a balanced coupling has moved a slice from where spots that lie on each other are more alike."""
    apart = np.linalg.norm(place.map(y) - closer.map(y), axis=1).max()
    return bool(apart > STRETCHED * spacing_of(x, y) and closer.likeness > place.likeness)


def robust_place(
    x: np.ndarray,
    y: np.ndarray,
    dissimilarities: list[np.ndarray],
    other: Rigid,
    rng: np.random.Generator,
    *,
    reflect: bool,
) -> Place:
    """The best supported of maps that are fitted to matches by expression, and of another one."""
    spacing = spacing_of(x, y)
    maps = [other]
    for dissimilarity in dissimilarities:
        rows, columns = matches(dissimilarity)
        maps.append(rigid.robust(x[rows], y[columns], spacing, rng, reflect=reflect))
    likeness = standardised(dissimilarities[-1])
    return max((_place(found, x, y, likeness, spacing) for found in maps), key=lambda at: at.evidence)


def refined(
    x: np.ndarray, y: np.ndarray, dissimilarity: np.ndarray, start: Rigid, transport: Transport, *, reflect: bool
) -> Refined:
    """Alternate transport by expression and residual distances with a robust fit to it, until neither changes.

    It has ended when a round moves no spot by more than :data:`STILL`.
    """
    spacing = spacing_of(x, y)
    likeness = standardised(dissimilarity)
    found = start
    for n_rounds in range(1, N_ROUNDS + 1):  # noqa: B007  # returned
        plan = transport(_costs(x, found(y), likeness, spacing))
        pairs = plan.tocoo()
        before = found
        found, weights = rigid.reweighted(x[pairs.row], y[pairs.col], pairs.data, found, spacing, reflect=reflect)
        moved = float(np.abs(found(y) - before(y)).max()) / spacing
        if moved < STILL:
            break
    return Refined(found, plan, weights, moved, n_rounds)


def _costs(x: np.ndarray, y: np.ndarray, likeness: np.ndarray, spacing: float) -> np.ndarray:
    """Negative log-likelihood ratios of being partners against being neighbours, by position and by expression."""
    from scipy.spatial.distance import cdist

    residual = cdist(x, y) / spacing
    nearest = residual.min(axis=0)
    width = max(float(np.median(nearest[nearest < 1])) if (nearest < 1).any() else 1.0, LEAST_WIDTH)
    partners, ring = residual < 0.5, (residual >= 0.5) & (residual < 2)
    cost = residual**2 / (2 * width**2)
    if partners.sum() > 2 and ring.sum() > 2:
        gap = float(likeness[ring].mean() - likeness[partners].mean())
        spread = float(likeness[ring].var())
        cost += max(gap, 0.0) / max(spread, np.finfo(float).tiny) * likeness
    return cost
