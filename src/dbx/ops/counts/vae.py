"""A variational autoencoder of counts: latent coordinates and denoised expression."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from dbx.data.blocks import RowBlocks
from dbx.data.minibatches import Minibatches
from dbx.losses.counts import log_factorial
from dbx.losses.latent import normal_kl
from dbx.ops.arrays import as_float
from dbx.ops.checks import check_above_zero, check_held_out, check_known, check_minimums, listed
from dbx.ops.counts.count_batches import add_batches
from dbx.ops.counts.count_covariates import design, standards
from dbx.ops.counts.count_profile import count_profile
from dbx.ops.counts.count_vae import CountVAE, negative_elbo
from dbx.ops.nn.draws import standard_normal
from dbx.ops.nn.epochs import WEIGHT_UNIT, default_epochs, warm_up
from dbx.ops.nn.training import Training, train
from dbx.ops.operator import Constant, Input, Operator, Output, Progress, Unit, silent
from dbx.ops.state import state_arrays
from dbx.ops.values import Codes

LIKELIHOODS = ("zinb", "nb", "poisson")
DISPERSIONS = ("gene", "gene-batch")
DROPOUT = 0.1
HISTORY = ("loss", "reconstruction", "kl")


class VAENormalize(Operator):
    """The scVI model: log1p counts to a normal posterior, its mean decoded to proportions of the cell's total.

    ``z`` is the posterior mean and ``normalized`` its decoding, with the cell's batch or with ``transform_batch``: both
    are deterministic, and independent of other cells. A batch that was not trained on gets new columns in the frozen
    networks (:meth:`extend`) or, with ``adapt_epochs=0``, the mean of the known batches'.

    New cells: the trained networks, at the posterior mean; a new batch is fitted and recorded so.
    """

    name = "vae_normalize"
    inputs: ClassVar = {
        "x": Input(genes=True, content=("counts",), empty_cells="raise"),
        "batch": Input(kind="codes", unseen="extend", optional=True),
        "categories": Input(kind="columns", discrete=True, unseen="missing", optional=True),
        "numbers": Input(kind="columns", optional=True),
    }
    outputs: ClassVar = {
        "z": Output(content="embedding"),
        "normalized": Output(content="normalized"),
        "history": Output(axis="none", dtype=None, view=True),
    }
    rowwise = True
    role = "projection"
    resumes = True
    scale: Constant
    """Mean and standard deviation of each numeric covariate, of shape (2, n_numbers)."""
    trace: Constant
    """Means over the cells in each epoch, of shape (n_curves, n_epochs)."""

    def __init__(
        self,
        *,
        likelihood: str = "zinb",
        n_latent: int = 10,
        n_hidden: int = 128,
        n_layers: int = 1,
        dispersion: str = "gene",
        encode_batch: bool = False,
        max_epochs: int | None = None,
        validation: float = 0.1,
        patience: int | None = 30,
        batch_size: int = 128,
        learning_rate: float = 1e-3,
        target_sum: float = 1e4,
        transform_batch: str | None = None,
        decode: bool = True,
        adapt_epochs: int = 100,
        n_genes: int | None = None,
        n_batches: int | None = None,
    ):
        check_known(likelihood, LIKELIHOODS, "likelihood")
        check_known(dispersion, DISPERSIONS, "dispersion")
        check_above_zero(target_sum, "target_sum")
        check_held_out(validation, "validation")
        self.likelihood, self.dispersion, self.encode_batch = likelihood, dispersion, encode_batch
        self.n_latent, self.n_hidden, self.n_layers = n_latent, n_hidden, n_layers
        self.max_epochs, self.validation, self.patience = max_epochs, validation, patience
        self.batch_size, self.learning_rate = batch_size, learning_rate
        self.target_sum, self.transform_batch, self.decode = target_sum, transform_batch, decode
        self.adapt_epochs = adapt_epochs
        check_minimums(self, n_latent=1, n_hidden=1, n_layers=1, batch_size=2, adapt_epochs=0, max_epochs=1, patience=1)
        self.n_genes, self.n_batches = n_genes, n_batches
        self.vae = CountVAE(
            likelihood=likelihood,
            n_latent=n_latent,
            n_layers=n_layers,
            dropout=DROPOUT,
            encode_batch=encode_batch,
            n_batches=n_batches or 1,
        )

    def fit(
        self,
        *,
        x: RowBlocks,
        batch: Codes | None = None,
        categories: Mapping[str, Codes] | None = None,
        numbers: Mapping[str, np.ndarray] | None = None,
        seed: int = 0,
        progress: Progress = silent,
    ) -> None:
        """Train the networks, from the present parameters or else from random ones."""
        self._check_batch(batch)
        n_batches = 1 if batch is None else batch.n_levels
        codes = np.zeros(x.n_rows, np.int32) if batch is None else np.asarray(batch.codes, np.int32)
        start, goes_on = count_profile(x, codes, n_batches), hasattr(self, "trace")
        if goes_on:
            self._check_same(x.n_columns, n_batches)
        self.n_genes, self.n_batches = x.n_columns, n_batches
        self.scale = self.scale if goes_on else Constant(as_float(standards(numbers)))
        extra = design(categories, numbers, self.scale[...])
        if not goes_on:
            by_batch, n_extra = self.dispersion == "gene-batch", 0 if extra is None else extra.shape[1]
            self.vae.reset(np.random.default_rng(seed), start, self.n_hidden, by_batch=by_batch, n_extra=n_extra)
        n_done = self.trace.shape[1] if goes_on else 0
        how = Training(
            epochs=default_epochs(x.n_rows) if self.max_epochs is None else self.max_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            epsilon=0.01,  # as scVI, like the weight decay
            weight_decay=1e-6,
            schedules={"kl_weight": lambda now: warm_up(n_done + now, x.n_rows)},
            validation=self.validation,
            patience=self.patience if self.validation else None,
        )
        columns: dict[str, RowBlocks | np.ndarray] = {"x": x, "batch": codes, "log_factorial": start.log_factorial}
        data = Minibatches(columns | ({} if extra is None else {"extra": np.asarray(extra)}))
        history = train(self.vae, negative_elbo, data, how, seed=seed, progress=progress)
        epochs = np.array([history[name] for name in self._followed()])
        before = [np.asarray(self.trace[...])] if goes_on else []
        self.trace = Constant(as_float(np.concatenate([*before, epochs], axis=1)))

    def extend(self, *, x: RowBlocks, batch: Codes, categories=None, numbers=None, seed: int = 0, progress=silent):
        """Add columns for batches that were not in the fit, and train them with all else frozen.

        Only these columns are trained, on the cells of the new batches (scArches: Lotfollahi et al., Nature
        Biotechnology, 2022). ``batch`` lists the fitted batches first, then the new ones.
        """
        n_new = batch.n_levels - self.vae.n_batches
        if n_new > 0 and self.adapt_epochs > 0 and self.vae.n_batches > 1:
            extra = design(categories, numbers, self.scale[...])
            add_batches(self.vae, x, np.asarray(batch.codes), n_new, extra, epochs=self.adapt_epochs, seed=seed)
            self.n_batches = self.vae.n_batches

    def __call__(self, x, batch: Codes | None = None, categories=None, numbers=None):
        """Posterior means and, unless ``decode=False``, expression that sums to ``target_sum`` in each cell."""
        extra = design(categories, numbers, self.scale[...], x.dtype)
        z, _ = self.vae.posterior(x, as_codes(batch, x), extra=extra)
        if not self.decode:
            return {"z": z}
        decoded = self.vae.decoder(z, self.vae.covariates(as_codes(self._target(batch), x), z.dtype, extra))
        return {"z": z, "normalized": self.target_sum * jnp.exp(decoded["log_proportion"])}

    def loss(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]):
        """Negative evidence lower bound of each cell, in nats.

        The expectation over the posterior is taken at two opposite draws around ``outputs["z"]``, the same in every
        call, so that the loss is a deterministic function of its arguments.
        """
        x = inputs["x"]
        variance, draws, covariates = self._draws(inputs, outputs)
        likelihood = sum(self.vae.decoder.log_likelihood(x, z, covariates) for z in draws) / len(draws)
        return normal_kl(outputs["z"], variance) - likelihood + log_factorial(x).sum(axis=-1)

    def reconstructions(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]):
        """Variance of the posterior, and the distribution of each cell's counts at the draws of :meth:`loss`.

        Each is a dict of ``log_mean``, an array of shape (n_cells, n_genes), and, where the likelihood has them,
        ``theta`` and ``inflation`` (log-odds).
        """
        variance, draws, covariates = self._draws(inputs, outputs)
        total = jnp.log(inputs["x"].sum(axis=-1, keepdims=True))
        decoded = [self.vae.decoder(z, covariates) for z in draws]
        return variance, [{**one, "log_mean": one["log_proportion"] + total} for one in decoded]

    def _draws(self, inputs: Mapping[str, Any], outputs: Mapping[str, Any]):
        """Variance of the posterior, two opposite draws around its mean, and the decoder's covariates."""
        x, z = inputs["x"], outputs["z"]
        codes = as_codes(inputs.get("batch"), x)
        extra = design(inputs.get("categories"), inputs.get("numbers"), self.scale[...], x.dtype)
        _, variance = self.vae.posterior(x, codes, extra=extra)
        noise = jnp.sqrt(variance) * standard_normal(jax.random.key(0), z.shape, z.dtype)
        return variance, (z + noise, z - noise), self.vae.covariates(codes, z.dtype, extra)

    @property
    def units(self) -> dict[str, Unit]:
        """Unit of distance of the weights, which are small numbers: about three; their step size is unchanged."""
        return {
            name: Unit(WEIGHT_UNIT, 1 / WEIGHT_UNIT)
            for name, (kind, _) in state_arrays(self).items()
            if kind == "parameter"
        }

    @property
    def history(self) -> dict[str, np.ndarray]:
        """Means over the cells in each epoch, arrays of shape (n_epochs,), in nats: ``elbo`` and its terms.

        ``loss`` is the training loss: reconstruction + weight x divergence, with a weight that rises with the epochs.
        ``validation_elbo`` is that of the held-out cells, at their posterior means.
        """
        trace = dict(zip(self._followed(), np.asarray(self.trace[...]), strict=True))
        held_out = {"validation_elbo": -trace.pop("validation_loss")} if self.validation else {}
        return {"elbo": -trace["reconstruction"] - trace["kl"], **held_out, **trace}

    def _followed(self) -> tuple[str, ...]:
        """Names of the rows of ``trace``."""
        return (*HISTORY, "validation_loss") if self.validation else HISTORY

    def _target(self, batch: Codes | None) -> Codes | None:
        if self.transform_batch is None or batch is None:
            return batch
        return Codes(jnp.full_like(batch.codes, batch.levels.index(self.transform_batch)), batch.levels)

    def _check_same(self, n_genes: int, n_batches: int) -> None:
        if (n_genes, n_batches) != (self.n_genes, self.n_batches):
            msg = (
                f"The model was trained on {self.n_genes} genes and {self.n_batches} batches and cannot be "
                f"trained further on {n_genes} and {n_batches}: fit it anew."
            )
            raise ValueError(msg)

    def _check_batch(self, batch: Codes | None) -> None:
        if batch is None:
            if self.transform_batch is not None or self.dispersion == "gene-batch" or self.encode_batch:
                msg = "transform_batch, dispersion='gene-batch' and encode_batch need batches: pass batch_key."
                raise ValueError(msg)
            return
        if batch.n_levels < 2:
            msg = f"All cells are from one batch ({batch.levels[0]!r}): leave batch_key out."
            raise ValueError(msg)
        if self.transform_batch is not None and self.transform_batch not in batch.levels:
            msg = f"transform_batch must be one of the batches {listed(batch.levels)}; got {self.transform_batch!r}."
            raise ValueError(msg)


def as_codes(batch: Codes | None, x):
    """The batch of each row, -1 without batches."""
    return jnp.full(len(x), -1) if batch is None else batch.codes
