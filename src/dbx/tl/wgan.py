"""Batch correction against a Wasserstein critic."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dbx.ops.batch.wgan import WGAN
from dbx.program import check_key, resolve_seed
from dbx.tl._batch_correction import correct

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def wgan(
    adata: AnnData | MuData,
    *,
    batch_key: str,
    layer: str | None = None,
    likelihood: Literal["nb", "zinb", "poisson"] = "nb",
    n_latent: int = 10,
    n_hidden: int = 128,
    n_layers: int = 1,
    strength: float = 100.0,
    weighted: bool = True,
    critic_steps: int = 5,
    max_epochs: int | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    key_added: str = "X_wgan",
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    rng: int | np.random.Generator | None = None,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Encode raw counts so that a Wasserstein critic finds no difference between batches.

    A network encodes a cell's log1p counts, without its batch, as latent coordinates of fixed spread; another decodes
    them, with the batch, to the mean of the raw counts given their total. A critic with a gradient penalty
    (Gulrajani et al., NeurIPS, 2017) estimates the Wasserstein distance of each batch to the others, which the encoder
    minimises; the critic takes several steps before each step of the encoder.

    Batches need not have the same cell types: with ``weighted``, when two batches are compared, cells are weighted by
    how common their type is in both. Types are clusters of log expression after the batches were aligned by mutual
    nearest neighbours. Classical methods are Harmony and mutual nearest neighbours.

    New cells (``dbx.rerun``) pass through the frozen encoder, which needs no batch: those of a batch that was not
    trained on are encoded like all others, without parameters for that batch.

    Parameters
    ----------
    adata
        Raw counts of cells by genes, best of a few thousand variable genes; dense, sparse, backed or dask.
    batch_key
        Column of ``adata.obs`` with the batch.
    layer
        Layer with the counts instead of ``X``.
    likelihood
        Distribution of the counts: negative binomial, with or without zero inflation, or Poisson.
    n_latent
        Latent dimensions.
    n_hidden, n_layers
        Units of each hidden layer, and hidden layers of each network.
    strength
        Weight of the distance in the loss, in nats per cell; it rises to this over the first tenth of the epochs.
    weighted
        Weight cells by how common their type is in both batches; otherwise whole batches are matched.
    critic_steps
        Steps of the critic before each step of the encoder.
    max_epochs
        Passes over the cells; by default 200 up to 20,000 cells and proportionally fewer above.
    batch_size
        Maximum minibatch size; batches are compared within minibatches.
    learning_rate
        Step size of Adam.
    key_added
        Key of ``obsm`` for the latent coordinates.
    random_state, rng
        Seed of the initial parameters, the minibatches and the noise.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["X_wgan" | key_added]``
        Latent coordinates, array of shape (n_cells, n_latent), float32; their variance is 1 on average.
    ``uns["wgan" | key_added]``
        ``params``, and ``history``: arrays of shape (n_epochs,): ``loss``, ``reconstruction`` (nats per
        cell), ``distance`` and ``critic_loss``.

    Raises
    ------
    ValueError
        The matrix does not hold counts; a cell has none, or no batch; there is one batch only; a setting is out of
        range.
    FloatingPointError
        Training diverged; the message says what to try.
    """
    check_key(key_added)
    operator = WGAN(
        likelihood=likelihood,
        n_latent=n_latent,
        n_hidden=n_hidden,
        n_layers=n_layers,
        strength=strength,
        weighted=weighted,
        critic_steps=critic_steps,
        max_epochs=max_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    return correct(
        adata,
        operator,
        batch_key=batch_key,
        layer=layer,
        key_added=key_added,
        seed=resolve_seed(random_state, rng),
        copy=copy,
        mod=mod,
    )
