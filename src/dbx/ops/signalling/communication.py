"""Communication between neighbouring cells: which ligands around a cell its genes respond to."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np

from dbx._warnings import warn
from dbx.data.blocks import RowBlocks
from dbx.ops.arrays import as_float, like
from dbx.ops.checks import check_fraction, check_whole
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.signalling.amounts import Subunits, amounts, amounts_by_blocks
from dbx.ops.signalling.baseline import nearby_groups
from dbx.ops.signalling.link_tables import called, gain_table, group_table, link_table
from dbx.ops.signalling.links import Moments, pooled_pvalues, shrunk
from dbx.ops.signalling.messages import Messages
from dbx.ops.signalling.moved import MovedSenders
from dbx.ops.signalling.received import Cells, mean_slopes, received, sent_by_group
from dbx.ops.signalling.smooth import smooth_columns
from dbx.ops.signalling.spatial_blocks import held_out_blocks
from dbx.ops.signalling.target_model import TargetModel, Targets, train_messages
from dbx.ops.space.called_graph import called_graph
from dbx.ops.space.neighbors import (
    check_graph_settings,
    edge_mask,
    spatial_graph,
    warn_of_far_cells,
    warn_of_shared_places,
)
from dbx.ops.values import Codes, Frame, Graph

DEFAULT_NEIGHS = 10
"""More cells than touch: attention learns how far signals reach."""


class Communication(Operator):
    """Target genes regressed on group, receptors and neighbours' groups, and on signals of neighbours' ligands.

    Signals are those of :class:`dbx.ops.signalling.messages.Messages`, trained together with the regression up to the
    best epoch for blocks of tissue that are held out. The regression is then solved exactly: ``gain`` is the held-out
    R2 that signals add, and ``links``, beside smooth functions of position, are tested against signals of senders that
    are moved to elsewhere in the tissue.

    ``ligands`` and ``receptors`` are column numbers of the subunits of each, ``pairs`` numbers of a ligand and a
    receptor, ``targets`` column numbers.

    New cells: signals of their neighbours among the new cells, by the trained network.
    """

    name = "communication"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("log",)),
        "groups": Input(kind="codes"),
        "points": Input(),
        "slices": Input(kind="codes", unseen="missing", optional=True),
    }
    outputs: ClassVar = {
        "signals": Output(),
        "links": Output(axis="none", dtype=None, view=True, inference=True),
        "strengths": Output(axis="none", dtype=None, view=True, inference=True),
        "gain": Output(axis="none", dtype=None, view=True, inference=True),
        "history": Output(axis="none", dtype=None, view=True),
    }
    in_space = True
    unlisted = frozenset(
        {"ligands", "receptors", "pairs", "targets", "ligand_names", "target_names", "group_names", "width"}
    )

    def __init__(
        self,
        *,
        ligands: Subunits,
        receptors: Subunits,
        pairs: tuple[tuple[int, int], ...],
        targets: tuple[int, ...],
        ligand_names: tuple[str, ...],
        target_names: tuple[str, ...],
        group_names: tuple[str, ...] = (),
        n_neighs: int | None = None,
        radius: float | None = None,
        heads: int = 2,
        max_epochs: int = 100,
        n_perms: int = 20,
        holdout: float = 0.2,
        width: int = 0,
    ):
        check_whole(heads, 1, "heads")
        check_whole(max_epochs, 1, "max_epochs")
        check_whole(n_perms, 1, "n_perms")
        check_fraction(holdout, "holdout")
        self.ligands, self.receptors, self.pairs, self.targets = ligands, receptors, pairs, targets
        self.ligand_names, self.target_names, self.group_names = ligand_names, target_names, group_names
        self.n_neighs, self.radius, self.heads, self.width = n_neighs, radius, heads, width
        self.max_epochs, self.n_perms, self.holdout = max_epochs, n_perms, holdout
        self.messages = Messages(heads=heads)
        check_graph_settings(**self._search)

    @property
    def _search(self) -> dict[str, Any]:
        """The nearest cells, up to the radius if there is one, or all cells within it."""
        kind = "radius" if self.radius is not None and self.n_neighs is None else "knn"
        n_neighs = DEFAULT_NEIGHS if self.n_neighs is None else self.n_neighs
        return {"coord_type": kind, "n_neighs": n_neighs, "radius": self.radius}

    def _graph(self, points: np.ndarray, slices: np.ndarray) -> Graph:
        return spatial_graph(points, **self._search, slices=slices)

    def fit(
        self,
        *,
        x: RowBlocks,
        groups: Codes,
        points: RowBlocks,
        slices: Codes | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Train the network on the cells outside some blocks, then test links on all cells."""
        rng = np.random.default_rng(seed)
        places = points.dense().astype(np.float64)
        where = _slice_codes(slices, len(places))
        warn_of_shared_places(places, where)
        codes, self.group_names = np.asarray(groups.codes), groups.levels
        cells = self._cells(x, codes, places, where)
        targets = Targets.of(x.select(np.asarray(self.targets)))
        held = held_out_blocks(places, where, self.holdout, rng)
        self._train(cells, targets, held, rng, seed, progress)
        self._judge(cells, targets, held)
        moved = MovedSenders(np.asarray(cells.senders), places, where, codes, rng)
        self._test(_beside(cells, targets, places, where), cells, targets, moved, progress)

    def _cells(self, x: RowBlocks, codes: np.ndarray, places: np.ndarray, where: np.ndarray) -> Cells:
        """What the model is fitted on; the units of everything are kept."""
        graph = self._graph(places, where)
        mask, distances = np.asarray(edge_mask(graph)), np.asarray(graph.weights)
        self._check_neighbours(mask)
        if self.radius is None:
            warn_of_far_cells(graph)
        self.width = graph.indices.shape[1] * (1 if self._search["coord_type"] == "knn" else 2)
        self.distance_unit = Constant(as_float(max(np.median(distances[mask]), 1e-30)))
        ligands, receptors = amounts_by_blocks(x, self.ligands, self.receptors)
        self.ligand_unit, self.receptor_unit = (Constant(as_float(_means(part))) for part in (ligands, receptors))
        receptors = receptors / np.asarray(self.receptor_unit[...])
        group = np.eye(len(self.group_names), dtype=np.float32)[codes]
        of_group = group.T @ receptors / np.maximum(group.sum(axis=0), 1)[:, None]
        self.group_receptors = Constant(as_float(of_group))
        cells = Cells(
            senders=ligands / np.asarray(self.ligand_unit[...]),
            receptors=receptors,
            of_group=of_group[codes],
            group=group,
            nearby=nearby_groups(graph, group),
            indices=np.asarray(graph.indices),
            mask=mask,
            squares=(distances / np.asarray(self.distance_unit[...])) ** 2,
        )
        self._check_enough(cells)
        return cells

    def _check_neighbours(self, mask: np.ndarray) -> None:
        if not mask.any():
            msg = f"No cell has a neighbour within radius={self.radius:g}: pass a larger one, or n_neighs."
            raise ValueError(msg)
        alone = int((~mask.any(axis=1)).sum())
        if alone:
            msg = f"{alone} of {len(mask)} cells have no neighbour and receive no signal; a larger radius reaches them."
            warn(msg)

    def _check_enough(self, cells: Cells) -> None:
        n_receivers = int(np.asarray(cells.mask).any(axis=1).sum())
        n_columns = cells.baseline(slice(0, 1)).shape[1] + len(self.ligands)
        if n_receivers * (1 - self.holdout) < 2 * n_columns:
            msg = (
                f"{n_receivers} cells with neighbours are too few for {len(self.ligands)} ligands, "
                f"{len(self.receptors)} receptors and {len(self.group_names)} groups: pass a resource with fewer "
                f"pairs{', or merge groups' if n_receivers == len(cells.mask) else ', or a larger radius'}."
            )
            raise ValueError(msg)

    def _train(self, cells: Cells, targets: Targets, held: np.ndarray, rng, seed: int, progress: Progress) -> None:
        of_ligand, of_receptor = np.array(self.pairs).T
        self.messages.reset(rng, len(self.group_names), of_ligand, of_receptor)
        raw = received(self.messages, cells, raw=True)
        self.messages.start = Constant(as_float([np.median(of[of > 0]) if (of > 0).any() else 1 for of in raw.T]))
        outside = Moments(cells.baseline, targets, ~held)
        penalty = np.sqrt(2 * np.log(2 * len(self.ligands)) / outside.n_cells)  # universal threshold
        model = TargetModel(self.messages, cells, targets, outside.base, float(penalty))
        found = train_messages(model, cells, targets, held, self.max_epochs, seed=seed, progress=progress)
        self.trace = Constant(as_float([found["squared_error"], found["validation_loss"]]))
        self.kept = Constant(found["kept"])

    def _judge(self, cells: Cells, targets: Targets, held: np.ndarray) -> None:
        """The R2 that signals add in the blocks that are held out."""
        signals = received(self.messages, cells)
        outside = Moments(cells.baseline, targets, ~held)
        learned = outside.links(signals)
        self.gained = Constant(np.stack(outside.explained(held, signals, learned, shrunk(learned))))

    def _test(
        self, everywhere: Moments, cells: Cells, targets: Targets, moved: MovedSenders, progress: Progress
    ) -> None:
        """Links of all cells, against those of senders that are elsewhere."""
        links, null = everywhere.links(received(self.messages, cells)), []
        for number in range(self.n_perms):
            others = cells._replace(senders=moved.draw())
            null.append(everywhere.links(received(self.messages, others)).z)
            progress(number + 1, self.n_perms, "permutations")
        pvalue = pooled_pvalues(links.z, np.array(null))
        slopes = mean_slopes(self.messages, cells, np.asarray(self.ligand_unit[...]))
        self.tested = Constant(np.stack([links.z, links.weights * slopes[:, None] * targets.sd, pvalue]))
        effect = np.where(called(pvalue), np.abs(links.weights), 0).sum(axis=1)
        self.between = Constant(sent_by_group(self.messages, cells, effect))

    def prepared(self, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
        """With the neighbours of all cells, and amounts of proteins instead of genes."""
        x, points = inputs["x"], inputs["points"].dense()
        graph = self._graph(points, _slice_codes(inputs.get("slices"), len(points)))
        proteins = amounts_by_blocks(x, self.ligands, self.receptors)
        return {**inputs, "x": x.select(np.empty(0, int)), "graph": graph, "proteins": proteins}

    def __call__(self, groups, points, x=None, slices=None, graph=None, proteins=None) -> dict[str, Any]:
        """Signals that cells receive, an array of shape (n_cells, n_ligands)."""
        ligands, receptors = [amounts(x, of) for of in (self.ligands, self.receptors)] if proteins is None else proteins
        if graph is None:
            where = jnp.zeros(len(points), jnp.int32) if slices is None else jnp.asarray(slices.codes)
            width = min(self.width, len(points) - 1)
            graph = called_graph(self._graph, points, where, width)
        senders, receptors = (
            ligands / like(self.ligand_unit[...], ligands),
            receptors / like(self.receptor_unit[...], ligands),
        )
        apart = (points[:, None] - points[graph.indices]) / like(self.distance_unit[...], points)
        signals = self.messages(
            senders,
            receptors,
            like(self.group_receptors[...], ligands)[groups.codes],
            groups.one_hot(ligands.dtype),
            graph.indices,
            edge_mask(graph),
            (apart**2).sum(axis=2),
        )
        return {"signals": signals}

    @property
    def links(self) -> Frame:
        """Links of ligands and targets, the strongest first."""
        z, gradient, pvalue = np.asarray(self.tested[...])
        return link_table(z, gradient, pvalue, self.ligand_names, self.target_names)

    @property
    def strengths(self) -> Frame:
        """Strengths between groups."""
        return group_table(np.asarray(self.between[...]), self.group_names)

    @property
    def gain(self) -> Frame:
        """Held-out R2 of targets."""
        gain, baseline = np.asarray(self.gained[...])
        return gain_table(gain, baseline, self.target_names)

    @property
    def history(self) -> Mapping[str, np.ndarray]:
        """Mean squared error of standardised targets in each epoch, arrays of shape (n_epochs,), and the epoch kept."""
        training, held_out = np.asarray(self.trace[...])
        return {"squared_error": training, "validation_squared_error": held_out, "kept": np.asarray(self.kept[...])}


def _slice_codes(slices: Codes | None, n_cells: int) -> np.ndarray:
    return np.zeros(n_cells, int) if slices is None else np.asarray(slices.codes)


def _beside(cells: Cells, targets: Targets, places: np.ndarray, slices: np.ndarray) -> Moments:
    """What links are tested beside: the baseline, and smooth functions of position as far as targets vary with them."""
    smooth, counts = smooth_columns(places, slices)
    used = np.ones(len(smooth), bool)
    n_columns = cells.baseline(slice(0, 1)).shape[1]

    def baseline(rows: slice, n_smooth: int) -> np.ndarray:
        return np.concatenate([cells.baseline(rows), smooth[rows, :n_smooth]], axis=1)

    most = Moments(partial(baseline, n_smooth=smooth.shape[1]), targets, used)
    best = most.best_count(n_columns + counts)
    return most.first(best, partial(baseline, n_smooth=best - n_columns))


def _means(x: np.ndarray) -> np.ndarray:
    means = x.mean(axis=0)
    return np.where(means > 0, means, 1)
