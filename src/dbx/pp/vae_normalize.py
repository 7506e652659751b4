"""Denoised expression and a latent space of counts by a variational autoencoder (scVI)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dbx.ops.counts.vae import VAENormalize
from dbx.program import check_key, matrix_slot, resolve_seed, run_step

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def vae_normalize(
    adata: AnnData | MuData,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    categorical_covariate_keys: Sequence[str] | str | None = None,
    continuous_covariate_keys: Sequence[str] | str | None = None,
    likelihood: Literal["zinb", "nb", "poisson"] = "zinb",
    n_latent: int = 10,
    n_hidden: int = 128,
    n_layers: int = 1,
    dispersion: Literal["gene", "gene-batch"] = "gene",
    encode_batch: bool = False,
    max_epochs: int | None = None,
    validation: float = 0.1,
    patience: int | None = 30,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    key_added: str = "X_vae",
    normalized_layer: str | None = "vae_normalized",
    target_sum: float = 1e4,
    transform_batch: str | None = None,
    adapt_epochs: int = 100,
    random_state: int | np.random.RandomState | None = 0,
    rng: int | np.random.Generator | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Fit scVI's model of raw counts: latent coordinates free of batch and depth, and denoised expression.

    The model of Lopez et al. (Nature Methods, 2018): a network encodes a cell's log1p counts as a normal distribution
    of latent coordinates, another decodes them, with the cell's batch, to proportions of its total. Counts are negative
    binomial, with or without zero inflation, or Poisson around that. It differs from scvi-tools' in its start (gene
    frequencies of each batch, and dispersions by moments), in that each gene has an intercept for each batch in the
    last layer, that the divergence from the prior gains weight more slowly, and that training stops early: a tenth of
    the cells is held out, and the parameters of the best epoch on them are kept. The classical steps for the same
    purpose are ``normalize_total``, ``log1p`` and ``pca``, and Harmony for batches.

    New cells (``dbx.rerun``) pass through the frozen networks. A batch that was not trained on gets new columns, which
    are trained with all else frozen (scArches: Lotfollahi et al., Nature Biotechnology, 2022); with
    ``adapt_epochs=0`` its cells are decoded with the mean of the known batches' columns.

    Parameters
    ----------
    adata
        Raw counts of cells by genes, best of a few thousand variable genes; dense, sparse or dask, or backed with
        ``normalized_layer=None``: a layer cannot be written to a file.
    layer
        Layer with the counts instead of ``X``.
    batch_key
        Column of ``adata.obs`` with the batch: an input of the decoder, so that latent coordinates need not hold it.
    categorical_covariate_keys, continuous_covariate_keys
        Further columns of ``adata.obs`` as inputs of the decoder: indicators of categories, standardised numbers.
    likelihood
        Distribution of the counts: zero-inflated negative binomial, negative binomial or Poisson.
    n_latent
        Latent dimensions.
    n_hidden, n_layers
        Units of each hidden layer, and hidden layers of each network.
    dispersion
        One dispersion for each gene, or for each gene in each batch.
    encode_batch
        Make the batch an input of the encoder, too.
    max_epochs
        Passes over the cells; by default 400 up to 20,000 cells and ``400 * 20000 / n_cells`` beyond, as in scvi-tools.
    validation
        Fraction of cells held out for validation; with 0 all cells are trained on, to the last epoch.
    patience
        Stop after this many epochs without improvement on the held-out cells; None runs all epochs.
    batch_size
        Maximum minibatch size.
    learning_rate
        Step size of Adam.
    key_added
        Key of ``obsm`` for the latent coordinates.
    normalized_layer
        Layer for the denoised expression, a dense array; None leaves it out.
    target_sum
        Sum of the denoised expression of a cell, in counts.
    transform_batch
        Decode every cell as if it were from this batch; by default from its own.
    adapt_epochs
        Passes over the cells of a new batch in ``dbx.rerun``.
    random_state, rng
        Seed of the initial parameters, the minibatches and the sampling.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obsm["X_vae" | key_added]``
        Posterior means, array of shape (n_cells, n_latent), float32.
    ``layers["vae_normalized" | normalized_layer]``
        Denoised expression at the posterior mean, dense array of shape (n_cells, n_genes), float32, not logarithmic.
    ``uns["vae_normalize" | key_added]``
        ``params``, and ``history``: arrays of shape (n_epochs,), in nats per cell: ``elbo``, its terms
        ``reconstruction`` and ``kl``, the ``loss``, in which the weight of ``kl`` rises over 1000 epochs
        (fewer beyond 20,000 cells), and the ``validation_elbo`` of the held-out cells.

    Raises
    ------
    ValueError
        The matrix does not hold counts; a cell has none; there is one batch only; ``transform_batch`` is not a batch.
    FloatingPointError
        Training diverged; the message says what to try.
    """
    check_key(key_added)
    operator = VAENormalize(
        likelihood=likelihood,
        n_latent=n_latent,
        n_hidden=n_hidden,
        n_layers=n_layers,
        dispersion=dispersion,
        encode_batch=encode_batch,
        max_epochs=max_epochs,
        validation=validation,
        patience=patience,
        batch_size=batch_size,
        learning_rate=learning_rate,
        target_sum=target_sum,
        transform_batch=None if transform_batch is None else str(transform_batch),
        decode=normalized_layer is not None,
        adapt_epochs=adapt_epochs,
    )
    key = "vae_normalize" if key_added == "X_vae" else key_added
    writes = {"z": f"obsm/{key_added}", "history": f"uns/{key}/history"}
    if normalized_layer is not None:
        writes["normalized"] = f"layers/{normalized_layer}"
    params = {"likelihood": likelihood, "dispersion": dispersion, "layer": layer, "batch_key": batch_key}
    keys = {"categories": categorical_covariate_keys, "numbers": continuous_covariate_keys}
    reads: dict[str, str | list[str]] = {"x": matrix_slot(layer)}
    if batch_key is not None:
        reads["batch"] = f"obs/{batch_key}"
    for name, named in keys.items():
        if named:
            reads[name] = [f"obs/{column}" for column in ([named] if isinstance(named, str) else named)]
    return run_step(
        adata,
        operator,
        reads=reads,
        writes=writes,
        constants={f"uns/{key}/params": {k: v for k, v in params.items() if v is not None}},
        seed=resolve_seed(random_state, rng),
        copy=copy,
        mod=mod,
    )
