"""Observed cells against simulated doublets: the mean of classifiers, each trained on a different set of doublets."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.ops.arrays import as_float
from dbx.ops.droplets.doublet_features import neighbour_shares
from dbx.ops.nn.mlp import MLP, Linear
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Progress, silent

DROPOUT = 0.1
MAX_ANCHORS, ROWS = 15_000, 4096


class TwoHeads(nnx.Module):
    """A linear model and a network with a hidden layer, on the same features.

    The linear model varies less between sets of doublets, the network is more accurate; their mean combines both.
    """

    def __init__(self):
        self.hidden, self.out, self.linear = MLP(1, dropout=DROPOUT), Linear(), Linear()

    def reset(self, rng: np.random.Generator, n_features: int, n_hidden: int) -> None:
        """Draw the parameters of the network; the linear model starts at zero."""
        self.hidden.reset(rng, n_features, n_hidden)
        self.out.reset(rng, n_hidden, 1)
        self.linear.kernel, self.linear.bias = (nnx.Param(as_float(np.zeros(s))) for s in ((n_features, 1), 1))

    def __call__(self, features, *, key=None):
        """Log-odds of simulated against observed by each model, array of shape (n_rows, 2)."""
        return jnp.concatenate([self.linear(features), self.out(self.hidden(features, key=key))], axis=1)

    def mean(self, features):
        """Mean log-odds of both models, array of shape (n_rows,)."""
        return self(features).mean(axis=1)


def cross_entropy(model: TwoHeads, batch: dict[str, jax.Array], key):
    """Binary cross-entropy of each row, summed over both heads, with equal class weights."""
    logit, simulated = model(batch["features"], key=key), batch["simulated"][:, None]
    return batch["weight"] * (jax.nn.softplus(logit) - simulated * logit).sum(axis=1), {}


class DrawClassifier(nnx.Module):
    """A classifier on coordinates and on the fraction of simulated doublets among their neighbours.

    Neighbours are found among anchors: a bounded number of observed cells and simulated doublets.
    """

    def __init__(self, n_latent: int):
        self.n_latent = n_latent
        self.heads = TwoHeads()

    def fit(
        self,
        observed: np.ndarray,
        simulated: np.ndarray,
        how: Training,
        n_hidden: int,
        *,
        rng: np.random.Generator,
        seed: int,
        progress: Progress = silent,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Train on coordinates, arrays of shape (n_rows, n_places).

        Returns
        -------
        Loss by epoch, array of shape (n_epochs,), and log-odds of the observed cells, array of shape (n_observed,).
        """
        places = np.concatenate([observed, simulated])
        label = np.repeat(np.arange(2, dtype=np.float32), [len(observed), len(simulated)])
        kept: slice | np.ndarray = slice(None)
        if len(places) > MAX_ANCHORS:
            kept = np.sort(rng.choice(len(places), MAX_ANCHORS, replace=False))
        self.anchors, self.simulated = Constant(as_float(places[kept])), Constant(as_float(label[kept]))
        features = in_parts(self, "features", places)
        self.centre, self.spread = (Constant(as_float(v)) for v in (features.mean(axis=0), features.std(axis=0) + 1e-6))
        scaled = (features - np.asarray(self.centre[...])) / np.asarray(self.spread[...])
        weight = np.where(label == 1, 0.5 / label.mean(), 0.5 / (1 - label.mean())).astype(np.float32)
        self.heads.reset(rng, features.shape[1], n_hidden)
        data = Minibatches({"features": RowBlocks(scaled), "simulated": label, "weight": weight})
        loss = train(self.heads, cross_entropy, data, how, seed=seed, progress=progress)["loss"]
        return loss, in_parts(self.heads, "mean", scaled[: len(observed)])

    def features(self, places):
        """Coordinates, and the fraction of simulated doublets around them in either space."""
        anchors, simulated = self.anchors[...], self.simulated[...]
        spaces = (slice(0, self.n_latent), slice(self.n_latent, -1))
        shares = [neighbour_shares(places[:, at], anchors[:, at], simulated) for at in spaces]
        return jnp.concatenate([places, *shares], axis=1)

    def __call__(self, places):
        """Log-odds, array of shape (n_rows,)."""
        scaled = (self.features(places) - self.centre[...]) / self.spread[...]
        return self.heads.mean(scaled)


def stack(draws: Sequence[DrawClassifier]) -> DrawClassifier:
    """All classifiers as one, with their arrays stacked along a first axis."""
    graphdef = nnx.graphdef(draws[0])
    states = jax.device_get([nnx.state(draw) for draw in draws])
    return nnx.merge(graphdef, jax.tree.map(lambda *arrays: jax.device_put(np.stack(arrays)), *states))


def mean_logit(stacked: DrawClassifier, places):
    """Mean log-odds over the classifiers, array of shape (n_rows,)."""
    graphdef, state = nnx.split(stacked)
    return jax.lax.map(lambda one: nnx.merge(graphdef, one)(places), state).mean(axis=0)


def in_parts(module: nnx.Module, method: str, rows: np.ndarray) -> np.ndarray:
    """Apply a compiled method of a module to rows on the host, a bounded number at a time.

    Parts are padded to a power of two, so that one program serves many numbers of rows.
    """
    graphdef, state = nnx.split(module)
    size = min(1 << max(len(rows) - 1, 0).bit_length(), ROWS)
    results = []
    for at in range(0, len(rows), size):
        part = rows[at : at + size]
        padded = np.pad(part, ((0, size - len(part)), (0, 0)))
        results.append(np.asarray(_run(graphdef, state, method, padded))[: len(part)])
    return np.concatenate(results)


@partial(jax.jit, static_argnums=(0, 2))
def _run(graphdef, state, method: str, values):
    return getattr(nnx.merge(graphdef, state), method)(values)
