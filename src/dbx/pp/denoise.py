"""Denoised counts by a transformer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.ops.counts.denoise import Denoise
from dbx.program import check_key, matrix_slot, resolve_seed, run_step

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def denoise(
    adata: AnnData | MuData,
    *,
    layer: str | None = None,
    n_units: int = 64,
    n_latents: int = 8,
    n_blocks: int = 2,
    target_sum: float | None = None,
    max_epochs: int | None = None,
    patience: int = 5,
    validation: float = 0.1,
    batch_size: int = 128,
    learning_rate: float = 5e-3,
    key_added: str = "denoised",
    random_state: int | np.random.RandomState | None = 0,
    copy: bool = False,
    rng: int | np.random.Generator | None = None,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Replace raw counts by their expectation, for all genes, with a transformer trained to predict hidden counts.

    A cell is a set of genes with counts, in no order. A few latent vectors attend to the embeddings of the genes it
    expresses, weighted by their log counts, then to each other in a few blocks of self-attention (the set attention of
    Lee et al., ICML, 2019, and Jaegle et al., ICML, 2021); the cost is linear in the genes. Their mean is decoded to
    the proportions of all genes. In training the network sees a random half or three quarters of a cell's counts, and
    the loss is the Poisson likelihood of the others, given their number: molecular cross-validation (Batson et al.,
    bioRxiv, 2019) as the objective, so that noise cannot be memorised. Training stops when the hidden counts of
    held-out cells are no longer predicted better, and the best parameters are kept. Classical methods for the same
    task are low-rank decompositions and MAGIC.

    New cells (``dbx.rerun``) pass through the frozen network. Batches are not modelled; see ``pp.vae_normalize``.

    Parameters
    ----------
    adata
        Raw counts of cells by genes; dense, sparse or dask.
    layer
        Layer with the counts instead of ``X``.
    n_units
        Length of the embedding of a gene and of the latent vectors, a multiple of 4.
    n_latents
        Latent vectors.
    n_blocks
        Blocks of self-attention.
    target_sum
        Sum of the denoised counts of a cell; by default its own total, so that they are expected counts.
    max_epochs
        Maximum passes over the cells; by default 30, and fewer above 10,666 cells, down to 10.
    patience
        Stop after this many epochs without improvement on the held-out cells.
    validation
        Fraction of cells held out for validation.
    batch_size
        Maximum minibatch size.
    learning_rate
        Largest step size of Adam; it rises and falls over the epochs.
    key_added
        Layer for the denoised counts.
    random_state, rng
        Seed of the initial parameters, the minibatches and the hidden counts.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``layers["denoised" | key_added]``
        Expected counts, dense array of shape (n_cells, n_genes), float32, not logarithmic.
    ``uns["denoise" | key_added]["history"]``
        ``loss`` and ``validation_loss``, arrays of shape (n_epochs,): negative log-likelihood of the hidden
        counts in nats per cell, without the terms of their number and factorials.

    Raises
    ------
    ValueError
        The matrix does not hold counts; a cell has none; a setting is out of range.
    FloatingPointError
        Training diverged; the message says what to try.
    """
    check_key(key_added)
    operator = Denoise(
        n_units=n_units,
        n_latents=n_latents,
        n_blocks=n_blocks,
        target_sum=target_sum,
        max_epochs=max_epochs,
        patience=patience,
        validation=validation,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    key = "denoise" if key_added == "denoised" else key_added
    return run_step(
        adata,
        operator,
        reads={"x": matrix_slot(layer)},
        writes={"denoised": f"layers/{key_added}", "history": f"uns/{key}/history"},
        seed=resolve_seed(random_state, rng),
        copy=copy,
        mod=mod,
    )
