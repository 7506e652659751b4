"""Doublet detection with SOLO."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from dbx.ops.droplets.solo import Solo
from dbx.program import check_key, matrix_slot, resolve_seed, run_step

if TYPE_CHECKING:
    import numpy as np
    from anndata import AnnData
    from mudata import MuData


def solo(
    adata: AnnData | MuData,
    *,
    layer: str | None = None,
    batch_key: str | None = None,
    expected_doublet_rate: float = 0.05,
    sim_doublet_ratio: float = 2.0,
    n_draws: int = 5,
    likelihood: Literal["nb", "zinb", "poisson"] = "nb",
    n_latent: int = 10,
    n_hidden: int = 128,
    max_epochs: int | None = None,
    classifier_epochs: int | None = None,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    key_added: str = "solo",
    random_state: int | np.random.RandomState | None = 0,
    rng: int | np.random.Generator | None = None,
    copy: bool = False,
    mod: str | None = None,
) -> AnnData | MuData | None:
    """Find doublets, droplets with two cells, by a classifier trained on simulated ones.

    SOLO (Bernstein et al., Cell Systems, 2020): a variational autoencoder is trained on the observed cells, doublets
    are simulated as sums of two random cells' counts, and a network is trained to separate their latent coordinates
    from those of observed cells. Its other features are a cell's total, the leading components of its log-normalised
    counts, and the fraction of simulated doublets among its neighbours in both spaces, as in Scrublet (Wolock et al.,
    Cell Systems, 2019). Every other simulated doublet loses up to half of its counts, as droplets seldom yield the
    counts of two cells: doublets of different cell types are then recognised at any total. Several sets of doublets are
    simulated, since one set leaves the ranks of a few thousand cells to chance; each has its own network and linear
    model, and their log-odds are averaged. The classifiers are trained with equal class weights, so the log-odds are
    then shifted such that the mean probability is ``expected_doublet_rate``, and the expected number of cells is
    called. Doublets of two cells of one type differ from singlets in their total alone, and are found only if it is
    larger. Reference implementations are scvi-tools' SOLO and Scrublet.

    New cells (``dbx.rerun``) pass through the frozen networks and are compared with the stored threshold.

    Parameters
    ----------
    adata
        Raw counts of cells by genes, best of a few thousand variable genes; dense, sparse, backed or dask.
    layer
        Layer with the counts instead of ``X``.
    batch_key
        Column of ``adata.obs`` with the sample: doublets are simulated within samples.
    expected_doublet_rate
        Fraction of doublets among the cells; about 0.008 per 1,000 cells loaded in a lane of 10x Genomics' droplets.
    sim_doublet_ratio
        Simulated doublets per cell, in each set.
    n_draws
        Sets of simulated doublets, each with its own classifier; fewer if they would exceed 50,000 doublets in total.
    likelihood
        Distribution of the counts in the autoencoder.
    n_latent, n_hidden
        Latent dimensions, and units of its hidden layers; the classifier's has half of them.
    max_epochs
        Passes over the cells in training the autoencoder; by default a quarter of those of ``vae_normalize``.
    classifier_epochs
        Passes over cells and doublets in training each classifier; by default 20, or more if needed for 900 steps.
    batch_size, learning_rate
        Maximum minibatch size and step size of Adam, for both.
    key_added
        Prefix of the score's column in ``obs``, and key of ``uns``.
    random_state, rng
        Seed of the networks and of the doublets.
    copy
        Work on a copy and return it.
    mod
        Modality of a MuData.

    Returns
    -------
    None, or the copy with ``copy=True``. Writes:

    ``obs["solo_score" | key_added + "_score"]``
        Probability of being a doublet, float32.
    ``obs["predicted_doublet"]``
        Whether a cell is among the expected number of likeliest doublets, bool.
    ``uns["solo" | key_added]``
        ``params``; ``summary``, with the ``threshold`` of the score; and ``history``, in nats per cell: ``vae_loss``,
        array of shape (max_epochs,), and ``classifier_loss``, array of shape (classifier_epochs,).

    Raises
    ------
    ValueError
        The matrix does not hold counts; a cell has none; a setting is out of range.
    FloatingPointError
        Training diverged; the message says what to try.
    """
    check_key(key_added)
    operator = Solo(
        expected_doublet_rate=expected_doublet_rate,
        sim_doublet_ratio=sim_doublet_ratio,
        n_draws=n_draws,
        likelihood=likelihood,
        n_latent=n_latent,
        n_hidden=n_hidden,
        max_epochs=max_epochs,
        classifier_epochs=classifier_epochs,
        batch_size=batch_size,
        learning_rate=learning_rate,
    )
    params = {"expected_doublet_rate": expected_doublet_rate, "layer": layer, "batch_key": batch_key}
    return run_step(
        adata,
        operator,
        reads={"x": matrix_slot(layer)} | ({} if batch_key is None else {"batch": f"obs/{batch_key}"}),
        writes={
            "score": f"obs/{key_added}_score",
            "doublet": "obs/predicted_doublet",
            "summary": f"uns/{key_added}/summary",
            "history": f"uns/{key_added}/history",
        },
        constants={f"uns/{key_added}/params": {k: v for k, v in params.items() if v is not None}},
        seed=resolve_seed(random_state, rng),
        copy=copy,
        mod=mod,
    )
