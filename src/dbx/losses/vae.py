"""The loss of a variational autoencoder, with a choice of its reconstruction and of the weight of its divergence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

import jax.numpy as jnp

from dbx.losses.counts import negative_binomial, poisson, zero_inflated_negative_binomial
from dbx.losses.latent import normal_kl
from dbx.losses.objectives import Cells, Objective

ReconstructionLoss = Literal["mse", "bce", "nb", "zinb", "poisson"]
NEEDED = {"nb": ("theta",), "zinb": ("theta", "inflation")}


def reconstruction_loss(x, decoded: Mapping[str, Any], kind: ReconstructionLoss):
    """Reconstruction term of a variational autoencoder of counts, an array of shape (n_cells,).

    Parameters
    ----------
    x
        Counts, an array of shape (n_cells, n_genes).
    decoded
        ``log_mean``, the logarithm of the expected counts, and for negative binomial counts ``theta`` and
        ``inflation`` (log-odds): arrays broadcast against ``x``.
    kind
        ``"poisson"``, ``"nb"``, ``"zinb"``: negative log-likelihood in nats. ``"mse"``: squared error of the log1p of
        the expected counts. ``"bce"``: binary cross-entropy of detection (a count above 0), whose probability is that
        of Poisson counts, ``1 - exp(-mean)``.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from dbx.losses import reconstruction_loss
    >>> decoded = {"log_mean": jnp.log(jnp.array([[2.0, 0.5]]))}
    >>> [round(float(reconstruction_loss(jnp.array([[2.0, 0.0]]), decoded, kind)[0]), 3) for kind in ("poisson", "bce")]
    [1.807, 0.645]
    """
    log_mean = decoded["log_mean"]
    if kind == "mse":
        return ((jnp.log1p(x) - jnp.log1p(jnp.exp(log_mean))) ** 2).sum(axis=-1)
    if kind == "bce":
        mean = jnp.exp(log_mean)
        some = x > 0
        return jnp.where(some, -jnp.log(-jnp.expm1(-jnp.where(some, mean, 1))), mean).sum(axis=-1)
    if kind == "poisson":
        return -poisson(x, log_mean).sum(axis=-1)
    if kind == "nb":
        return -negative_binomial(x, log_mean, decoded["theta"]).sum(axis=-1)
    return -zero_inflated_negative_binomial(x, log_mean, decoded["theta"], decoded["inflation"]).sum(axis=-1)


@dataclass(frozen=True, repr=False)
class Vae(Objective):
    """Reconstruction plus weighted divergence of a variational autoencoder: a step such as ``pp.vae_normalize``.

    With the step's own likelihood and a weight of 1 this is :class:`Elbo`. The expectation over the posterior is taken
    at the step's two opposite draws, as there.

    Parameters
    ----------
    reconstruction
        As ``kind`` of :func:`reconstruction_loss`. The dispersion and the zero inflation are those of the step.
    step
        Name of the step; by default the first trained one.
    kl_weight
        Weight of the divergence of the posterior from the prior (a beta-VAE: Higgins et al., ICLR 2017).
    kl_warmup_epochs
        Epochs over which the weight rises linearly from 0; held-out cells are judged with the full weight.

    Examples
    --------
    >>> import dbx
    >>> dbx.losses.Vae("zinb", kl_warmup_epochs=20)
    Vae('zinb', kl_warmup_epochs=20)
    """

    reconstruction: ReconstructionLoss = "nb"
    step: str | None = field(default=None, kw_only=True)
    kl_weight: float = field(default=1.0, kw_only=True)
    kl_warmup_epochs: int = field(default=0, kw_only=True)
    slot: str | None = field(default=None, init=False)
    name: ClassVar[str] = "vae"
    of_values: ClassVar[bool] = True
    method: ClassVar[str | None] = "reconstructions"

    def __post_init__(self) -> None:
        kinds = get_args(ReconstructionLoss)
        if self.reconstruction not in kinds:
            msg = f"reconstruction must be one of {', '.join(map(repr, kinds))}; got {self.reconstruction!r}."
            raise ValueError(msg)
        for name in ("kl_weight", "kl_warmup_epochs"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
                msg = f"{name} must be a number of at least 0; got {value!r}."
                raise ValueError(msg)

    def of_cells(self, cells: Cells):
        """Reconstruction and weighted divergence of each cell, in nats for a likelihood."""
        operator, inputs, outputs = cells.run(self.step)
        variance, draws = operator.reconstructions(inputs, outputs)
        self._check(draws[0])
        reconstruction = sum(reconstruction_loss(inputs["x"], decoded, self.reconstruction) for decoded in draws)
        divergence = normal_kl(outputs["z"], variance)
        return reconstruction / len(draws) + self._weight(cells.epoch) * divergence

    def _weight(self, epoch):
        if not self.kl_warmup_epochs:
            return self.kl_weight
        return self.kl_weight * jnp.minimum(epoch / self.kl_warmup_epochs, 1)

    def _check(self, decoded: Mapping[str, Any]) -> None:
        missing = [name for name in NEEDED.get(self.reconstruction, ()) if name not in decoded]
        if missing:
            msg = (
                f"Vae({self.reconstruction!r}) needs {' and '.join(missing)}, which the step's likelihood does not "
                f"have: fit it with likelihood={self.reconstruction!r}, or choose another reconstruction."
            )
            raise ValueError(msg)
