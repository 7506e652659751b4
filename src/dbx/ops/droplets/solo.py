"""Doublets by a classifier on a variational autoencoder's latent space (SOLO: Bernstein et al., Cell Systems, 2020)."""

from __future__ import annotations

from math import ceil
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.ops.arrays import as_float, row_sums
from dbx.ops.checks import check_above_zero, check_fraction, check_known, check_minimums
from dbx.ops.counts.count_profile import count_profile
from dbx.ops.counts.count_vae import CountEncoder, CountVAE, negative_elbo
from dbx.ops.counts.vae import LIKELIHOODS
from dbx.ops.droplets.doublet_classifier import DROPOUT, DrawClassifier, in_parts, mean_logit, stack
from dbx.ops.droplets.doublet_features import batch_codes, components, simulate_doublets, with_losses
from dbx.ops.droplets.expected_rate import draw_sizes, prior_shift
from dbx.ops.nn.epochs import default_epochs, warm_up
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, silent
from dbx.ops.values import Codes

MIN_EPOCHS, MIN_STEPS = 20, 900
"""Minimum training of a classifier. With a few hundred cells 20 epochs are few steps: the weight of the total is then
still near its initial value, and doublets of two cells of one type, with no other sign, are ranked too low."""


class Solo(Operator):
    """Classifiers of observed cells against simulated doublets, their mean odds shifted to the expected rate.

    Their features are a cell's latent coordinates (of an autoencoder trained on the observed cells), leading components
    of its log-normalised counts, its total, and the fraction of simulated doublets among its neighbours in both spaces.
    Each is trained on a different set of doublets, since one set leaves the ranks of a few thousand cells to chance.

    New cells: the trained networks, the simulated doublets of the fit, and the stored threshold.
    """

    name = "solo"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",), empty_cells="raise"),
        "batch": Input(kind="codes", unseen="missing", optional=True, of_fitted_cells=True),
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
        n_draws: int = 5,
        likelihood: str = "nb",
        n_latent: int = 10,
        n_hidden: int = 128,
        max_epochs: int | None = None,
        classifier_epochs: int | None = None,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
    ):
        check_fraction(expected_doublet_rate, "expected_doublet_rate")
        check_above_zero(sim_doublet_ratio, "sim_doublet_ratio")
        check_known(likelihood, LIKELIHOODS, "likelihood")
        self.expected_doublet_rate, self.sim_doublet_ratio = expected_doublet_rate, sim_doublet_ratio
        self.n_draws = n_draws
        self.likelihood, self.n_latent, self.n_hidden = likelihood, n_latent, n_hidden
        self.max_epochs, self.classifier_epochs = max_epochs, classifier_epochs
        self.batch_size, self.learning_rate = batch_size, learning_rate
        check_minimums(self, n_draws=1, n_latent=1, n_hidden=2, max_epochs=1, classifier_epochs=1, batch_size=2)
        self.encoder = CountEncoder(n_latent=n_latent, n_layers=1, dropout=DROPOUT)
        self.draws = DrawClassifier(n_latent)

    def fit(self, *, x: RowBlocks, batch: Codes | None = None, seed: int = 0, progress: Progress = silent) -> None:
        """Train the autoencoder, then a classifier per set of doublets; shift their odds to the expected rate."""
        if x.n_rows < 2:
            msg = f"Doublets are simulated from pairs of cells: solo needs at least 2 cells; got {x.n_rows}."
            raise ValueError(msg)
        rng, codes = np.random.default_rng(seed), batch_codes(batch, x.n_rows)
        losses = self._train_encoder(x, codes, rng, seed, progress)
        directions, offset, depth = components(x, rng)
        self.directions, self.offset = Constant(as_float(directions)), Constant(as_float(offset))
        self.depth = Constant(as_float(depth))
        observed = np.concatenate([in_parts(self, "places", block.rows[block.mask]) for block in x])
        history, logit = self._train_classifiers(observed, x, codes, rng, seed, progress)
        self.trace, self.classifier_trace = Constant(as_float(losses)), Constant(as_float(history))
        self.shift = Constant(as_float(prior_shift(logit, self.expected_doublet_rate)))
        n_called = max(round(self.expected_doublet_rate * x.n_rows), 1)
        # halfway to the next, so that rounding does not change the calls
        between = np.sort(logit + np.asarray(self.shift[...]))[-n_called - 1 :][:2].mean()
        self.threshold = Constant(as_float(1 / (1 + np.exp(-between))))

    def __call__(self, x, batch: Codes | None = None):
        """Probability of being a doublet, and whether it is among the expected number of likeliest."""
        score = jax.nn.sigmoid(self.logit(self.places(x)) + self.shift[...])
        return {"score": score, "doublet": score >= self.threshold[...]}

    @property
    def summary(self) -> dict[str, np.ndarray]:
        """Threshold of the calls."""
        return {"threshold": np.asarray(self.threshold[...])}

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Losses of both trainings in each epoch, arrays of shape (n_epochs,)."""
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
        return history["loss"] + start.log_factorial.mean()

    def _train_classifiers(self, observed, x, codes, rng, seed, progress) -> tuple[np.ndarray, np.ndarray]:
        """Loss by epoch and log-odds of the observed cells, means over the sets of doublets."""
        sizes = draw_sizes(self.n_draws, self.sim_doublet_ratio * x.n_rows)
        n_epochs = self.classifier_epochs or enough_epochs(len(observed) + sizes[0], self.batch_size)
        how = Training(
            epochs=n_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=1e-2,
            schedules={"learning_rate": lambda epochs: 1 - epochs / n_epochs},
        )
        history, logits, draws = [], [], []
        for number, size in enumerate(sizes, 1):
            doublets = simulate_doublets(x, codes, size, rng)
            simulated = np.concatenate([in_parts(self, "places", with_losses(part, rng)) for part in doublets])
            draw = DrawClassifier(self.n_latent)
            given = {"n_hidden": self.n_hidden // 2, "rng": rng, "seed": seed + number, "progress": progress}
            loss, logit = draw.fit(observed, simulated, how, **given)
            history.append(loss)
            logits.append(logit)
            draws.append(draw)
        self.draws = stack(draws)
        return np.mean(history, axis=0), np.stack(logits).mean(axis=0, dtype=np.float64)

    def places(self, x):
        """Latent coordinates, components and the logarithm of the total, an array of shape (n_cells, n_places)."""
        total = jnp.maximum(row_sums(x), 1e-6)[:, None]
        z, _ = self.encoder(x)
        log = jnp.log1p(x * (self.depth[...] / total))
        return jnp.concatenate([z, log @ self.directions[...] - self.offset[...], jnp.log(total)], axis=1)

    def logit(self, places):
        """Mean log-odds over the classifiers, as trained with equal class weights."""
        return mean_logit(self.draws, places)


def enough_epochs(n_rows: int, batch_size: int) -> int:
    """Default number of epochs of a classifier: at least ``MIN_EPOCHS`` epochs and ``MIN_STEPS`` steps."""
    return max(MIN_EPOCHS, ceil(MIN_STEPS / ceil(n_rows / batch_size)))
