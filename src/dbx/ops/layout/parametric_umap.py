"""Parametric UMAP: a network that maps the values of a cell, fitted or new, to its position."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from scipy import sparse

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.ops.arrays import as_float
from dbx.ops.checks import check_at_least
from dbx.ops.layout.umap import UMAP
from dbx.ops.layout.umap_layout import Curve
from dbx.ops.nn.epochs import WEIGHT_UNIT
from dbx.ops.nn.mlp import Linear
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Unit, config_names, silent
from dbx.ops.state import state_arrays
from dbx.ops.values import Graph

STEPS = 3000
"""Minimum number of minibatches of the regression on the ordinary layout, and of edges after that."""
CELLS = 256
"""Maximum cells in a minibatch of the regression."""
EDGES = 512
"""Maximum edges in a minibatch."""
LEARNING_RATE = 2e-3
"""Initial learning rate of both; it falls to 0."""


class Network(nnx.Module):
    """Linear layers with GELU between them, of cells and positions that are centred and scaled to unit size."""

    def __init__(self, n_layers: int):
        self.layers = nnx.List([Linear() for _ in range(n_layers + 1)])

    def reset(self, rng: np.random.Generator, x: np.ndarray, places: np.ndarray, n_hidden: int) -> None:
        """Initialise the parameters for cells of shape (n_cells, n_dims) and their initial positions ``places``."""
        self.centre, self.size = (Constant(as_float(part)) for part in _centre_and_size(x))
        self.middle, self.extent = (Constant(as_float(part)) for part in _centre_and_size(places))
        widths = [x.shape[1], *[n_hidden] * (len(self.layers) - 1), places.shape[1]]
        for layer, n_in, n_out in zip(self.layers, widths[:-1], widths[1:], strict=True):
            layer.reset(rng, n_in, n_out)

    def __call__(self, x):
        """Positions of cells, an array of shape (n_cells, n_components)."""
        h = (x - self.centre[...]) / self.size[...]
        for layer in self.layers[:-1]:
            h = jax.nn.gelu(layer(h))
        return self.middle[...] + self.extent[...] * self.layers[-1](h)


def _centre_and_size(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of each column, and root mean square of all columns about it."""
    centre = x.mean(axis=0, dtype=np.float64)
    return centre, np.maximum(np.sqrt(((x - centre) ** 2).mean()), 1e-12)


class Cells(nnx.Variable):
    """Values of the cells that the edges of a minibatch connect."""


class Drawn(nnx.Module):
    """A network and the cells it maps."""

    def __init__(self, network: Network, x: np.ndarray):
        self.network, self.x = network, Cells(as_float(x))


@dataclass(frozen=True)
class CrossEntropyOfEdges:
    """UMAP's cross-entropy of a minibatch of edges; the ends of the other edges are the negative samples."""

    a: float
    b: float
    gamma: float
    n_negative: int

    def __call__(self, model: Drawn, batch: dict[str, jax.Array], key):
        """Loss of each edge, for :func:`dbx.ops.nn.training.train`."""
        x = model.x[...]
        head, tail = model.network(x[batch["head"]]), model.network(x[batch["tail"]])
        near = jnp.log1p(self._power(((head - tail) ** 2).sum(axis=1)))
        turns = jax.random.randint(key, (self.n_negative,), 1, max(len(tail), 2))
        others = jax.vmap(lambda turn: jnp.roll(tail, turn, axis=0))(turns)
        distant = self._power(((head - others) ** 2).sum(axis=-1))
        far = jnp.log1p(1 / (0.001 + distant)).sum(axis=0)
        loss = batch["weight"] * (near + self.gamma * far)
        return loss, {}

    def _power(self, squared):
        return self.a * jnp.maximum(squared, 1e-12) ** self.b


class ParametricUMAP(Operator):
    """A network that maps cells to a layout in which likely neighbours are close and other cells distant.

    ``fit`` takes the cells and the edges between them. The network is first fitted to the ordinary layout by
    regression, then trained by UMAP's objective over minibatches of edges. Any cell, fitted or new, is mapped from its
    own values alone.

    Sainburg, McInnes and Gentner, Neural Computation 2021. The reference implementation is ``umap.parametric_umap``;
    the layout without a network is :class:`dbx.ops.UMAP`.

    New cells: ``method='parametric'``: the network.
    """

    name = "parametric_umap"
    inputs: ClassVar = {
        "x": Input(),
        "graph": Input(kind="graph", of_fitted_cells=True),
        "init": Input(optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {"z": Output(content="embedding"), "history": Output(axis="none", dtype=None, view=True)}
    rowwise = True

    def __init__(
        self,
        *,
        n_components: int = 2,
        n_dims: int | None = None,
        min_dist: float = 0.5,
        spread: float = 1.0,
        a: float | None = None,
        b: float | None = None,
        gamma: float = 1.0,
        alpha: float = 1.0,
        negative_sample_rate: float = 5,
        n_epochs: int | None = None,
        start: Literal["spectral", "random", "given"] = "spectral",
        n_hidden: int = 128,
        n_layers: int = 3,
        max_epochs: int | None = None,
    ):
        for name, value, least in (("n_hidden", n_hidden, 1), ("n_layers", n_layers, 1), ("max_epochs", max_epochs, 0)):
            check_at_least(least if value is None else value, least, name)
        self.n_components, self.n_dims = n_components, n_dims
        self.min_dist, self.spread, self.a, self.b, self.gamma, self.alpha = min_dist, spread, a, b, gamma, alpha
        self.negative_sample_rate, self.n_epochs, self.start = negative_sample_rate, n_epochs, start
        self.n_hidden, self.n_layers, self.max_epochs = n_hidden, n_layers, max_epochs
        self.network = Network(n_layers)
        self.starter: Callable[[], np.ndarray] | None = None
        """Set before ``fit``, as in :class:`dbx.ops.UMAP`."""

    @property
    def curve(self) -> Curve:
        """As in :class:`dbx.ops.UMAP`."""
        return Curve.of(self.min_dist, self.spread, self.a, self.b, self.gamma)

    def fit(
        self,
        *,
        x: RowBlocks,
        graph: sparse.csr_matrix,
        init: RowBlocks | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Compute the ordinary layout, fit the network to it, and train it by UMAP's objective."""
        values = np.ascontiguousarray(x.dense()[:, : self.n_dims], np.float32)
        places = self._layout(graph, init, x, seed, progress)
        self.network.reset(np.random.default_rng(seed), values, places, self.n_hidden)
        self._regress(values, places, seed)
        history = self._descend(values, graph, seed, progress)
        self.trace = Constant(as_float(history["loss"]))

    def _layout(self, graph, init, x: RowBlocks, seed: int, progress: Progress) -> np.ndarray:
        known = config_names(UMAP)
        ordinary = UMAP(**{name: value for name, value in self.config.items() if name in known})
        ordinary.starter, self.starter = self.starter, None
        ordinary.fit(graph=graph, init=init, x=x, seed=seed, progress=progress)
        return np.asarray(ordinary.embedding[...])

    def _regress(self, values: np.ndarray, places: np.ndarray, seed: int) -> None:
        size = min(CELLS, len(values))
        how = schedule(-(-STEPS // -(-len(values) // size)), size)
        train(self.network, distance_to_place, Minibatches({"x": values, "place": places}), how, seed=seed)

    def _descend(self, values, graph: sparse.csr_matrix, seed: int, progress: Progress) -> Mapping[str, np.ndarray]:
        edges = sparse.triu(graph, 1).tocoo()
        turned = np.random.default_rng(seed).random(len(edges.row)) < 0.5
        columns = {
            "head": np.where(turned, edges.row, edges.col).astype(np.int32),
            "tail": np.where(turned, edges.col, edges.row).astype(np.int32),
            "weight": (edges.data / edges.data.mean()).astype(np.float32),
        }
        objective = CrossEntropyOfEdges(*self.curve, max(round(self.negative_sample_rate), 1))
        size = min(EDGES, len(edges.row))
        epochs = -(-STEPS // -(-len(edges.row) // size)) if self.max_epochs is None else self.max_epochs
        if epochs == 0:
            return {"loss": np.empty(0)}
        model, how = Drawn(self.network, values), schedule(epochs, size)
        return train(model, objective, Minibatches(columns), how, seed=seed, progress=progress)

    def __call__(self, x, graph: Graph | None = None, init=None) -> dict[str, Any]:
        """The positions of cells, an array of shape (n_cells, n_components)."""
        del graph, init
        return {"z": self.network(x[:, : self.n_dims])}

    def depicted(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> tuple[Any, Any]:
        """The dimensions that the network sees, and the positions."""
        return inputs["x"][:, : self.n_dims], outputs["z"]

    @property
    def units(self) -> dict[str, Unit]:
        """Weights of networks are small: distances are in units of ``WEIGHT_UNIT``, step sizes unscaled."""
        names = [name for name, (kind, _) in state_arrays(self).items() if kind == "parameter"]
        return dict.fromkeys(names, Unit(WEIGHT_UNIT, 1 / WEIGHT_UNIT))

    @property
    def history(self) -> Mapping[str, np.ndarray]:
        """Mean cross-entropy of the edges in each epoch, an array of shape (n_epochs,)."""
        return {"loss": np.asarray(self.trace[...])}


def schedule(epochs: int, size: int) -> Training:
    """Adam with a learning rate that falls to 0."""
    falling = {"learning_rate": lambda done: 1 - done / epochs}
    return Training(epochs=epochs, batch_size=size, learning_rate=LEARNING_RATE, schedules=falling)


def distance_to_place(network: Network, batch: dict[str, jax.Array], key):
    """Squared distance of each cell to its position in the ordinary layout, relative to the layout's extent."""
    del key
    return (((network(batch["x"]) - batch["place"]) / network.extent[...]) ** 2).sum(axis=1), {}
