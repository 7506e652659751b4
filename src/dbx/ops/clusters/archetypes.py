"""Cells as mixtures of archetypes, which are mixtures of a few cells."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import as_float, like, weighted_sums
from dbx.ops.checks import check_above_zero, check_below_one, check_whole, check_whole_or_auto
from dbx.ops.clusters.elbow import find_elbow
from dbx.ops.clusters.pcha import Hull, pcha
from dbx.ops.clusters.simplex import simplex_weights
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Unit, silent
from dbx.ops.values import Frame


class Archetypes(Operator):
    """Weights w >= 0 with sum 1 that minimise abs(z - w archetypes)^2; the archetypes lie in the hull of the cells.

    Found by principal convex hull analysis (Morup and Hansen, Neurocomputing 2012). Trainable are the archetypes.
    With ``x``, genes are regressed on the coordinates, which gives the archetypes' genes; for principal components of
    ``x`` this is their reconstruction.

    New cells: their weights in the reference's archetypes.
    """

    name = "archetypes"
    inputs: ClassVar = {"z": Input(), "x": Input(genes=True, optional=True, of_fitted_cells=True)}
    outputs: ClassVar = {
        "weights": Output(),
        "archetypes": Output(axis="none", dtype=None, view=True),
        "explained_variance": Output(axis="none", dtype=None, view=True),
        "cells": Output(axis="none", dtype=None, view=True),
        "elbow": Output(axis="none", dtype=None, view=True),
        "genes": Output(axis="genes", view=True),
    }
    result = "weights"
    rowwise = True
    host = True

    def __init__(
        self,
        *,
        n_archetypes: int | Literal["auto"],
        delta: float = 0.0,
        n_init: int = 5,
        max_iter: int = 500,
        tol: float = 1e-6,
    ):
        check_whole_or_auto(n_archetypes, 2, "n_archetypes")
        check_below_one(delta, "delta")
        check_whole(n_init, 1, "n_init")
        check_whole(max_iter, 1, "max_iter")
        check_above_zero(tol, "tol")
        self.n_archetypes = n_archetypes
        self.delta = delta
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol

    def fit(self, *, z: RowBlocks, x: RowBlocks | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Find the archetypes, ordered by falling sum of the cells' weights."""
        points = z.dense().astype(np.float64)
        found = pcha(
            points,
            self._number(points, seed, progress),
            delta=self.delta,
            n_init=self.n_init,
            max_iter=self.max_iter,
            tol=self.tol,
            seed=seed,
            progress=progress,
        )
        order = np.argsort(-found.weights.sum(axis=0), kind="stable")
        self.corners = nnx.Param(as_float(found.archetypes[order]))
        self.spread = Constant(np.float64(points.std(axis=0).mean()))
        self.explained = Constant(np.float64(found.explained(points)))
        self.members = Constant(_members(found, order, len(points), self.delta))
        if x is not None:
            self._regress(points, x)

    def _number(self, points: np.ndarray, seed: int, progress: Progress) -> int:
        if self.n_archetypes == "auto":
            found = find_elbow(points, delta=self.delta, n_init=1, max_iter=self.max_iter, seed=seed, progress=progress)
            self.curve = Constant(np.array([found.numbers, found.explained, found.error, found.chosen]))
            return found.best
        number = int(self.n_archetypes)
        if number > len(points):
            msg = f"n_archetypes must be at most the number of cells, {len(points)}; got {number}."
            raise ValueError(msg)
        return number

    def _regress(self, points: np.ndarray, x: RowBlocks) -> None:
        middle = points.mean(axis=0)
        by = np.column_stack([np.linalg.pinv(points - middle).T, np.full(len(points), 1 / len(points))])
        sums = weighted_sums(by, x)
        self.middle = Constant(middle)
        self.slopes = Constant(sums[:-1].astype(np.float32))
        self.gene_means = Constant(sums[-1])

    def __call__(self, z, x=None) -> dict[str, Any]:
        """Weights of cells, an array of shape (n_cells, n_archetypes)."""
        del x
        if isinstance(z, np.ndarray):
            found = simplex_weights(z.astype(np.float64), np.asarray(self.corners[...], np.float64))
            return {"weights": found.astype(z.dtype)}
        return {"weights": simplex_weights(z, like(self.corners[...], z))}

    def loss(self, inputs, outputs):
        """Squared distance of each cell to its mixture of archetypes."""
        z = inputs["z"]
        return ((z - outputs["weights"] @ like(self.corners[...], z)) ** 2).sum(axis=1)

    @property
    def units(self) -> dict[str, Unit]:
        """The unit of archetypes is the standard deviation of the cells."""
        return {"corners": Unit(float(self.spread[...]), 1.0)}

    @property
    def archetypes(self) -> np.ndarray:
        """Array of shape (n_archetypes, n_dims)."""
        return np.asarray(self.corners[...])

    @property
    def explained_variance(self) -> float:
        """Fraction of the variance of the fitted cells that their mixtures explain."""
        return float(self.explained[...])

    @property
    def cells(self) -> Frame:
        """The cells of which each archetype is a mixture: number of the archetype and of the cell, and its weight."""
        archetype, cell, weight = np.asarray(self.members[...])
        columns = {"archetype": archetype.astype(np.int64), "cell": cell.astype(np.int64), "weight": weight}
        return Frame(columns, rows=None)

    @property
    def elbow(self) -> Frame:
        """Explained variance by number of archetypes, with ``n_archetypes="auto"``."""
        if not hasattr(self, "curve"):
            msg = 'There is a curve only with n_archetypes="auto".'
            raise AttributeError(msg)
        number, explained, error, chosen = np.asarray(self.curve[...])
        columns = {
            "n_archetypes": number.astype(np.int64),
            "explained_variance": explained,
            "standard_error": error,
            "chosen": chosen,
        }
        return Frame(columns, rows=None)

    @property
    def genes(self) -> np.ndarray:
        """Array of shape (n_genes, n_archetypes)."""
        if not hasattr(self, "slopes"):
            msg = "The archetypes were found without genes."
            raise AttributeError(msg)
        away = self.archetypes - np.asarray(self.middle[...])
        return (away @ np.asarray(self.slopes[...]) + np.asarray(self.gene_means[...])).T


def _members(found: Hull, order: np.ndarray, n_cells: int, delta: float) -> np.ndarray:
    """Number of the archetype, number of the cell and its weight, an array of shape (3, n)."""
    rows = []
    for j, i in enumerate(order):
        members, weights = found.mixtures[i]
        scale = np.where(members < n_cells, 1 - delta, 1 + delta)
        cells, where = np.unique(members % n_cells, return_inverse=True)
        rows.append(np.array([np.full(len(cells), j), cells, np.bincount(where, weights * scale)]))
    return np.concatenate(rows, axis=1)
