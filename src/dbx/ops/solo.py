"""Doublets by a classifier on a variational autoencoder's latent space (SOLO: Bernstein et al., Cell Systems, 2020)."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.ops.count_profile import count_profile
from dbx.ops.count_vae import CountEncoder, CountVAE, negative_elbo
from dbx.ops.doublet_features import batch_codes, components, neighbour_shares, simulate_doublets
from dbx.ops.mlp import MLP, Linear, as_float
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.rows import row_sums
from dbx.ops.training import Training, train
from dbx.ops.vae import default_epochs, warm_up
from dbx.ops.values import Codes

DROPOUT = 0.1
MOST_SIMULATED, MOST_ANCHORS = 50_000, 15_000


class DoubletClassifier(nnx.Module):
    """Log-odds of simulated against observed: one hidden layer beside a linear one."""

    def __init__(self):
        self.hidden, self.out, self.linear = MLP(1, dropout=DROPOUT), Linear(), Linear()

    def reset(self, rng: np.random.Generator, n_features: int, n_hidden: int) -> None:
        """Draw the parameters."""
        self.hidden.reset(rng, n_features, n_hidden)
        self.out.reset(rng, n_hidden, 1)
        self.linear.reset(rng, n_features, 1)

    def __call__(self, features, *, key=None):
        """Array of shape (n_rows,)."""
        return (self.out(self.hidden(features, key=key)) + self.linear(features))[:, 0]


def cross_entropy(model: DoubletClassifier, batch: dict[str, jax.Array], key):
    """Binary cross-entropy of each row, weighted so that both classes count alike."""
    logit, simulated = model(batch["features"], key=key), batch["simulated"]
    return batch["weight"] * (jax.nn.softplus(logit) - simulated * logit), {}


class Solo(Operator):
    """A classifier of observed cells against simulated doublets, its odds shifted to the expected rate.

    It is told a cell's latent coordinates (of an autoencoder trained on the observed cells), leading components of its
    log-normalised counts, its total, and the share of simulated doublets among its neighbours in both spaces. The
    neighbours are looked for among anchors, a bounded number of observed cells and simulated doublets that the
    operator keeps.
    """

    name = "solo"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",)),
        "batch": Input(kind="codes", optional=True, of_fitted_cells=True),
    }
    outputs: ClassVar = {
        "score": Output(),
        "doublet": Output(dtype="bool"),
        "summary": Output(axis="none", dtype=None, view=True),
        "history": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True

    def __init__(
        self,
        *,
        expected_doublet_rate: float = 0.05,
        sim_doublet_ratio: float = 2.0,
        likelihood: str = "nb",
        n_latent: int = 10,
        n_hidden: int = 128,
        max_epochs: int | None = None,
        classifier_epochs: int = 10,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
    ):
        if not 0 < expected_doublet_rate < 1:
            msg = f"expected_doublet_rate={expected_doublet_rate} must be a share of the cells, between 0 and 1."
            raise ValueError(msg)
        if sim_doublet_ratio <= 0:
            msg = f"sim_doublet_ratio={sim_doublet_ratio} must be above 0."
            raise ValueError(msg)
        self.expected_doublet_rate, self.sim_doublet_ratio = expected_doublet_rate, sim_doublet_ratio
        self.likelihood, self.n_latent, self.n_hidden = likelihood, n_latent, n_hidden
        self.max_epochs, self.classifier_epochs = max_epochs, classifier_epochs
        self.batch_size, self.learning_rate = batch_size, learning_rate
        self.encoder = CountEncoder(n_latent=n_latent, n_layers=1, dropout=DROPOUT)
        self.classifier = DoubletClassifier()

    def fit(self, *, x: RowBlocks, batch: Codes | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Train the autoencoder, simulate doublets, train the classifier, and shift its odds to the expected rate."""
        rng, codes = np.random.default_rng(seed), batch_codes(batch, x.n_rows)
        losses = self._train_encoder(x, codes, rng, seed, progress)
        directions, offset, depth = components(x, rng)
        self.directions, self.offset = Constant(as_float(directions)), Constant(as_float(offset))
        self.depth = Constant(as_float(depth))
        n_simulated = int(np.clip(round(self.sim_doublet_ratio * x.n_rows), 20, MOST_SIMULATED))
        places = [
            np.concatenate([self._places_of(part) for part in parts])
            for parts in ((block.rows[block.mask] for block in x), simulate_doublets(x, codes, n_simulated, rng))
        ]
        self._keep_anchors(places, rng)
        features = np.concatenate([self._features_of(part) for part in places])
        self.centre, self.spread = (Constant(as_float(v)) for v in (features.mean(axis=0), features.std(axis=0) + 1e-6))
        history = self._train_classifier(features, x.n_rows, rng, seed, progress)
        self.trace, self.classifier_trace = Constant(as_float(losses)), Constant(as_float(history))
        logit = np.asarray(self._logit(jnp.asarray(features[: x.n_rows])), np.float64)
        self.shift = Constant(as_float(prior_shift(logit, self.expected_doublet_rate)))
        n_called = max(round(self.expected_doublet_rate * x.n_rows), 1)
        lowest = np.sort(logit + np.asarray(self.shift[...]))[-n_called]
        self.threshold = Constant(as_float(1 / (1 + np.exp(-lowest))))

    def __call__(self, x, batch: Codes | None = None):
        """Probability of being a doublet, and whether it is among the expected number of likeliest."""
        score = jax.nn.sigmoid(self._logit(self._features(self._places(x))) + self.shift[...])
        return {"score": score, "doublet": score >= self.threshold[...]}

    @property
    def summary(self) -> dict[str, np.ndarray]:
        """Threshold of the calls."""
        return {"threshold": np.asarray(self.threshold[...])}

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Losses of both trainings in each epoch, arrays of shape (max_epochs,) and (classifier_epochs,)."""
        return {"vae_loss": np.asarray(self.trace[...]), "classifier_loss": np.asarray(self.classifier_trace[...])}

    def _train_encoder(self, x, codes, rng, seed, progress) -> np.ndarray:
        n_batches = int(codes.max()) + 1
        vae = CountVAE(
            likelihood=self.likelihood,
            n_latent=self.n_latent,
            n_layers=1,
            dropout=DROPOUT,
            encode_batch=False,
            n_batches=n_batches,
        )
        start = count_profile(x, codes, n_batches)
        vae.reset(rng, start, self.n_hidden, by_batch=False)
        how = Training(
            epochs=self.max_epochs or max(default_epochs(x.n_rows) // 4, 1),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            epsilon=0.01,
            weight_decay=1e-6,
            schedules={"kl_weight": warm_up},
        )
        data = Minibatches({"x": x, "batch": codes})
        history = train(vae, negative_elbo, data, how, seed=seed, progress=progress)
        self.encoder = vae.encoder
        return history["loss"] + np.float32(start.log_factorial)

    def _train_classifier(self, features, n_observed, rng, seed, progress) -> np.ndarray:
        simulated = (np.arange(len(features)) >= n_observed).astype(np.float32)
        share = simulated.mean()
        weight = np.where(simulated == 1, 0.5 / share, 0.5 / (1 - share)).astype(np.float32)
        scaled = (features - np.asarray(self.centre[...])) / np.asarray(self.spread[...])
        self.classifier.reset(rng, features.shape[1], self.n_hidden // 2)
        how = Training(
            epochs=self.classifier_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=1e-2,
            schedules={"learning_rate": lambda epochs: 1 - epochs / self.classifier_epochs},
        )
        data = Minibatches({"features": RowBlocks(scaled), "simulated": simulated, "weight": weight})
        return train(self.classifier, cross_entropy, data, how, seed=seed, progress=progress)["loss"]

    def _keep_anchors(self, places: list[np.ndarray], rng: np.random.Generator) -> None:
        labels = np.repeat(np.arange(2, dtype=np.float32), [len(part) for part in places])
        places = np.concatenate(places)
        if len(places) > MOST_ANCHORS:
            kept = np.sort(rng.choice(len(places), MOST_ANCHORS, replace=False))
            places, labels = places[kept], labels[kept]
        self.anchors, self.simulated = Constant(as_float(places)), Constant(as_float(labels))

    def _places(self, x):
        """Latent coordinates, components and the logarithm of the total, an array of shape (n_cells, n_places)."""
        total = jnp.maximum(row_sums(x), 1e-6)[:, None]
        z, _ = self.encoder(x)
        log = jnp.log1p(x * (self.depth[...] / total))
        return jnp.concatenate([z, log @ self.directions[...] - self.offset[...], jnp.log(total)], axis=1)

    def _features(self, places):
        """Places, and the share of simulated doublets around them in either space."""
        spaces = (slice(0, self.n_latent), slice(self.n_latent, -1))
        anchors, simulated = self.anchors[...], self.simulated[...]
        shares = [neighbour_shares(places[:, at], anchors[:, at], simulated) for at in spaces]
        return jnp.concatenate([places, *shares], axis=1)

    def _logit(self, features):
        return self.classifier((features - self.centre[...]) / self.spread[...])

    def _places_of(self, counts: np.ndarray) -> np.ndarray:
        graphdef, state = nnx.split(self)
        return np.asarray(_run(graphdef, state, "_places", counts))

    def _features_of(self, places: np.ndarray) -> np.ndarray:
        graphdef, state = nnx.split(self)
        parts = [places[at : at + 4096] for at in range(0, len(places), 4096)]
        return np.concatenate([_run(graphdef, state, "_features", part) for part in parts])


@partial(jax.jit, static_argnums=(0, 2))
def _run(graphdef, state, method: str, values):
    return getattr(nnx.merge(graphdef, state), method)(values)


def prior_shift(logit: np.ndarray, rate: float) -> float:
    """What to add to log-odds learnt on balanced classes so that the mean probability is the expected rate."""
    low, high = -50.0 - logit.max(), 50.0 - logit.min()
    for _ in range(100):
        middle = (low + high) / 2
        mean = (1 / (1 + np.exp(-(logit + middle)))).mean()
        low, high = (middle, high) if mean < rate else (low, middle)
    return (low + high) / 2
