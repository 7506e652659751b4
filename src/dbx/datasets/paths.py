"""Paths between groups of simulated cells: a tree, how far each cell has come, and what each gene does on the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

VOLATILITY = 0.8
"""Standard deviation of a non-linear gene's bridge, of the logarithm of its factor, per square root of a path."""
ROOT = "root"


@dataclass(frozen=True)
class Tree:
    """The path on which each group lies, and how many steps it has."""

    origin: np.ndarray
    """Array of shape (n_groups,), int: group at whose end a path begins, -1 for the root."""
    n_steps: np.ndarray
    """Array of shape (n_groups,), int."""
    skew: np.ndarray
    """Array of shape (n_groups,): near 1 most cells are at the beginning, near 0 at the end."""

    @cached_property
    def lineages(self) -> list[list[int]]:
        """For each group, the groups from the root to itself."""
        found = []
        for group in range(len(self.origin)):
            line = [group]
            while self.origin[line[0]] >= 0:
                line.insert(0, int(self.origin[line[0]]))
            found.append(line)
        return found

    @cached_property
    def end(self) -> np.ndarray:
        """Array of shape (n_groups,): pseudotime of the end of each path; the longest way from the root has 1."""
        steps = np.array([self.n_steps[line].sum() for line in self.lineages], float)
        return steps / steps.max()

    @property
    def begin(self) -> np.ndarray:
        """Array of shape (n_groups,): pseudotime of the beginning of each path."""
        return np.where(self.origin < 0, 0, self.end[self.origin])

    def pseudotime(self, group: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Pseudotime of cells on paths, from 0 at the root to 1."""
        share = step / self.n_steps[group]
        return self.begin[group] * (1 - share) + self.end[group] * share

    def on_way(self, time: np.ndarray, group: np.ndarray, path: np.ndarray) -> np.ndarray:
        """Pseudotime up to which cells have followed the way through a path: array of shape (n_cells, n_paths).

        That of the cell, before the path, on it and after it; for cells of another branch, that of the branching.
        """
        n, shared = len(self.origin), np.full((len(self.origin),) * 2, np.inf)
        for one in range(n):
            for other in range(n):
                a, b = self.lineages[one], self.lineages[other]
                if one not in b and other not in a:
                    common = [x for x in a if x in b]
                    shared[one, other] = self.end[common[-1]] if common else 0
        return np.minimum(time[:, None], shared[group][:, path])


@dataclass(frozen=True)
class Switches:
    """Genes that switch once, along a sigmoid of pseudotime."""

    gene: np.ndarray
    path: np.ndarray
    """Group on whose path each switches."""
    time: np.ndarray
    strength: np.ndarray
    """Slope at the switch, in logits per unit of pseudotime: above 0 for genes that are switched on."""
    factor: np.ndarray
    """Factor of the mean long after the switch over that long before it."""

    def factors(self, time: np.ndarray) -> np.ndarray:
        """Factors of the means, an array of the shape of ``time``, (n_cells, n_switches)."""
        done = 1 / (1 + np.exp(-np.abs(self.strength) * (time - self.time)))
        return 1 + (self.factor - 1) * done


@dataclass(frozen=True)
class Paths:
    """Where the cells are on the tree, and the factors of the genes there."""

    tree: Tree
    step: np.ndarray
    """Array of shape (n_cells,), int: from 1 to the number of steps of the cell's path."""
    begin: np.ndarray
    """Array of shape (n_groups, n_genes): factors at the beginning of each path."""
    end: np.ndarray
    bent: list[np.ndarray]
    """For each path, the genes that do not go straight."""
    bends: list[np.ndarray]
    """For each path an array of shape (n_steps + 1, n_bent): logarithm of their factor over the straight one."""
    switches: Switches

    def factors(self, group: np.ndarray, step: np.ndarray) -> np.ndarray:
        """Factors of the means of cells, an array of shape (n_cells, n_genes)."""
        share = (step / self.tree.n_steps[group])[:, None]
        found = self.begin[group] * (1 - share) + self.end[group] * share
        for path, (genes, bends) in enumerate(zip(self.bent, self.bends, strict=True)):
            rows = np.flatnonzero(group == path)
            found[np.ix_(rows, genes)] *= np.exp(bends[step[rows]])
        time = self.tree.on_way(self.tree.pseudotime(group, step), group, self.switches.path)
        found[:, self.switches.gene] = self.switches.factors(time)
        return found


def read_tree(paths: str | Mapping[str, str | None] | pd.DataFrame, n_groups: int, steps, skew) -> Tree:
    """The tree of a name, a dict (group -> group that it comes from) or a table.

    Raises
    ------
    ValueError
        Unknown names, or groups that come from each other in a circle.
    """
    names = [f"group_{i + 1}" for i in range(n_groups)]
    n_steps, skews = np.broadcast_to(steps, n_groups).copy(), np.broadcast_to(np.asarray(skew, float), n_groups).copy()
    numbers = np.arange(1, n_groups + 1)
    if not isinstance(paths, (Mapping, pd.DataFrame)):
        if not (isinstance(paths, str) and paths in ("linear", "bifurcation")):
            msg = f"paths must be 'linear', 'bifurcation', a dict or a table; got {paths!r}."
            raise ValueError(msg)
        return Tree(numbers - 2 if paths == "linear" else numbers // 2 - 1, n_steps, skews)
    if isinstance(paths, pd.DataFrame):
        if not {"group", "origin"} <= set(paths.columns):
            msg = f"The table of paths needs the columns 'group' and 'origin'; it has {list(paths.columns)}."
            raise ValueError(msg)
        rows = [names.index(name) for name in paths["group"] if name in names]
        for column, values in (("steps", n_steps), ("skew", skews)):
            if column in paths and len(rows) == len(paths):
                values[rows] = paths[column]
        given = list(zip(paths["group"], paths["origin"], strict=True))
    else:
        given = list(paths.items())
    origin = np.full(n_groups, -1)
    for group, source in given:
        source = ROOT if pd.isna(source) else source
        unknown = [x for x in (group, source) if x not in [*names, ROOT]]
        if unknown or group == ROOT:
            msg = f"paths names {(unknown or [group])[0]!r}; groups are {names[0]}, ..., {names[-1]}, and {ROOT!r}."
            raise ValueError(msg)
        origin[names.index(group)] = -1 if source == ROOT else names.index(source)
    _check_tree(origin, names)
    return Tree(origin, n_steps, skews)


def _check_tree(origin: np.ndarray, names: Sequence[str]) -> None:
    for group in range(len(origin)):
        at = group
        for _ in range(len(origin)):
            at = origin[at] if at >= 0 else at
        if at >= 0:
            msg = f"{names[group]} comes from itself: paths must lead back to {ROOT!r}."
            raise ValueError(msg)


def draw_paths(
    rng: np.random.Generator, tree: Tree, group: np.ndarray, factors: np.ndarray, nonlinear: float, switches: Switches
) -> Paths:
    """Steps of cells, and what genes do along each path; ``factors`` are those of each group over its origin.

    A cell's step is drawn with probabilities that change linearly along the path, from twice the skew to twice one
    minus the skew.
    """
    step, n_genes = np.empty(len(group), np.int64), factors.shape[1]
    for path, (n, skew) in enumerate(zip(tree.n_steps, tree.skew, strict=True)):
        weights = np.linspace(2 * skew, 2 - 2 * skew, n) if n > 1 else np.ones(1)
        rows = np.flatnonzero(group == path)
        step[rows] = rng.choice(n, len(rows), p=weights / weights.sum()) + 1
    factors = factors.copy()
    factors[:, switches.gene] = 1
    end = np.array([np.prod(factors[line], axis=0) for line in tree.lineages])
    begin = np.where((tree.origin < 0)[:, None], 1, end[tree.origin])
    straight = np.isin(np.arange(n_genes), switches.gene)
    bent = [np.flatnonzero((rng.random(n_genes) < nonlinear) & ~straight) for _ in tree.n_steps]
    bends = [_bridge(rng, n, len(genes)) for n, genes in zip(tree.n_steps, bent, strict=True)]
    return Paths(tree, step, begin, end, bent, bends, switches)


def _bridge(rng: np.random.Generator, n_steps: int, n_genes: int) -> np.ndarray:
    """Brownian bridges from 0 to 0, an array of shape (n_steps + 1, n_genes)."""
    walk = np.zeros((n_steps + 1, n_genes))
    walk[1:] = np.cumsum(rng.normal(0, VOLATILITY / np.sqrt(n_steps), (n_steps, n_genes)), axis=0)
    return walk - np.linspace(0, 1, n_steps + 1)[:, None] * walk[-1]


def draw_switches(rng: np.random.Generator, tree: Tree, n: int, n_genes: int, location, scale, down) -> Switches:
    """Genes that switch, each on one path: in the middle four fifths of it, in a 5th to a 30th of its length.

    The factors are those of changed genes, with the same fraction below 1; a switch takes four over its strength.
    """
    gene, path = rng.choice(n_genes, n, replace=False), rng.integers(len(tree.origin), size=n)
    length = (tree.end - tree.begin)[path]
    time = tree.begin[path] + length * rng.uniform(0.1, 0.9, n)
    strength = 4 / length * np.exp(rng.uniform(np.log(5), np.log(30), n))
    size, off = np.abs(rng.normal(location, scale, n)), rng.random(n) < down
    return Switches(gene, path, time, np.where(off, -strength, strength), np.exp(np.where(off, -size, size)))
