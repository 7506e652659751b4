"""The same model in dbx and in scvi-tools, each behind the same four things that a comparison asks for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

N_HIDDEN, N_LATENT, BATCH_SIZE = 128, 10, 128

Decoded = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]
"""Mean of the counts, inverse dispersion or None, probability of an inflated zero or None."""


class Dbx:
    """``dbx.pp.vae_normalize``, trained on some cells and applied to all."""

    def __init__(self, adata, *, likelihood: str, epochs: int, seed: int, validation: float = 0.1):
        import dbx
        from dbx.program.record.registry import load

        self.fitted = adata.copy()
        sizes = {"n_hidden": N_HIDDEN, "n_latent": N_LATENT, "batch_size": BATCH_SIZE, "validation": validation}
        dbx.pp.vae_normalize(
            self.fitted, batch_key="batch", likelihood=likelihood, max_epochs=epochs, random_state=seed,
            normalized_layer=None, **sizes,
        )  # fmt: skip
        self.vae = load(self.fitted)["vae_normalize"].build().vae

    def _inputs(self, adata):
        import jax.numpy as jnp

        codes = self.fitted.obs["batch"].cat.categories.get_indexer(adata.obs["batch"])
        return jnp.asarray(adata.X.toarray()), jnp.asarray(codes)

    def result(self) -> np.ndarray:
        """Latent coordinates of the cells trained on."""
        return self.fitted.obsm["X_vae"]

    def latent(self, adata) -> np.ndarray:
        return np.asarray(self.vae.posterior(*self._inputs(adata))[0])

    def kl(self, adata) -> np.ndarray:
        from dbx.losses import normal_kl

        return np.asarray(normal_kl(*self.vae.posterior(*self._inputs(adata))))

    def draws(self, adata, n: int) -> Iterator[Decoded]:
        import jax
        import jax.numpy as jnp

        x, codes = self._inputs(adata)
        mean, variance = self.vae.posterior(x, codes)
        for i in range(n):
            z = mean + jnp.sqrt(variance) * jax.random.normal(jax.random.key(i), mean.shape)
            decoded = self.vae.decoder(z, self.vae.covariates(codes, z.dtype))
            mu = jnp.exp(decoded["log_proportion"]) * x.sum(axis=1, keepdims=True)
            inflation = jax.nn.sigmoid(decoded["inflation"]) if "inflation" in decoded else None
            yield tuple(None if y is None else np.asarray(y) for y in (mu, decoded.get("theta"), inflation))


class Scvi:
    """``scvi.model.SCVI`` with the library size observed, as it is by default."""

    def __init__(self, adata, *, likelihood: str, epochs: int, seed: int, validation: float = 0.0):
        import scvi

        scvi.settings.seed, scvi.settings.verbosity = seed, 40
        self.fitted = adata.copy()
        scvi.model.SCVI.setup_anndata(self.fitted, batch_key="batch")
        self.model = scvi.model.SCVI(
            self.fitted, n_hidden=N_HIDDEN, n_latent=N_LATENT, n_layers=1, gene_likelihood=likelihood
        )
        self.model.train(
            max_epochs=epochs,
            batch_size=BATCH_SIZE,
            train_size=1 - validation,
            accelerator="cpu",
            enable_progress_bar=False,
        )

    def result(self) -> np.ndarray:
        """Latent coordinates of the cells trained on."""
        return self.model.get_latent_representation()

    def latent(self, adata) -> np.ndarray:
        return self.model.get_latent_representation(adata.copy())

    def kl(self, adata) -> np.ndarray:
        mean, variance = self.model.get_latent_representation(adata.copy(), return_dist=True)
        return 0.5 * (variance + mean**2 - 1 - np.log(variance)).sum(axis=1)

    def draws(self, adata, n: int) -> Iterator[Decoded]:
        import torch

        module = self.model.module.eval()
        x = torch.as_tensor(adata.X.toarray())
        codes = self.fitted.obs["batch"].cat.categories.get_indexer(adata.obs["batch"])
        batch = torch.as_tensor(codes)[:, None].long()
        for i in range(n):
            torch.manual_seed(i)
            with torch.no_grad():
                inferred = module.inference(x=x, batch_index=batch)
                px = module.generative(z=inferred["z"], library=inferred["library"], batch_index=batch)["px"]
            if module.gene_likelihood == "poisson":
                yield px.rate.numpy(), None, None
            else:
                yield px.mu.numpy(), px.theta.numpy(), px.zi_probs.numpy() if hasattr(px, "zi_probs") else None


MODELS = {"dbx": Dbx, "scvi-tools": Scvi}
