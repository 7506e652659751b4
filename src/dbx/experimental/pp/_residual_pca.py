"""Pearson residuals of selected genes and their principal components, as two recorded steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.ops.checks import listed
from dbx.ops.components.pca import PCA
from dbx.pp.normalize_pearson_residuals import normalize_pearson_residuals, pearson_residuals, warn_of_fractions
from dbx.pp.pca import float_name, pca, pca_params
from dbx.program import Slot, assign, holder, read, resolve_seed, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

RESIDUALS = "obsm/X_pearson_residuals"
NOTE = "uns/pearson_residuals_normalization"
OF_PCA = ("zero_center", "dtype", "projection", "svd_solver", "chunked", "chunk_size")
"""Keyword arguments of pca that may be passed on; the last three have no effect there."""


@dataclass(frozen=True, kw_only=True)
class ResidualPCA:
    """Settings of residuals and components."""

    theta: float
    clip: float | None
    n_comps: int | None
    random_state: Any
    kwargs_pca: Mapping[str, Any] = field(default_factory=dict)
    check_values: bool = True
    noted_mask: str | None = None
    """The mask in ``uns["pca"]["params"]``."""

    def __post_init__(self) -> None:
        unknown = [name for name in self.kwargs_pca if name not in OF_PCA]
        if unknown:
            msg = f"kwargs_pca may have {listed(OF_PCA)}; got {listed(unknown)}."
            raise ValueError(msg)

    def record(self, data: AnnData | MuData, mask: str | np.ndarray | None, mod: str | None) -> None:
        """Write and record both steps; ``mask`` selects genes by a column of ``var`` or an array, None takes all."""
        owner, counts = holder(data, Slot.parse("X", mod)), Slot.parse("X", mod)
        if self.check_values:
            warn_of_fractions(data, counts)
        select: str | np.ndarray = np.ones(owner.n_vars, bool) if mask is None else mask
        select = f"var/{select}" if isinstance(select, str) else select
        note = {"theta": self.theta, "clip": self.clip, "computed_on": "adata.X"}
        zero_center = self.kwargs_pca.get("zero_center", True)
        components = PCA(
            n_comps=self.n_comps,
            zero_center=zero_center,
            dtype=float_name(self.kwargs_pca.get("dtype", "float32")),
            projection=self.kwargs_pca.get("projection", "free"),
        )
        run_step(
            data,
            pearson_residuals(data, counts, self.theta, self.clip),
            reads={"x": "X"},
            writes={"x": RESIDUALS},
            constants={NOTE: note},
            select=select,
            mod=mod,
        )
        run_step(
            data,
            components,
            reads={"x": RESIDUALS},
            writes={
                "z": "obsm/X_pca",
                "loadings": "varm/PCs",
                "variance": "uns/pca/variance",
                "variance_ratio": "uns/pca/variance_ratio",
            },
            constants={"uns/pca/params": pca_params(zero_center, self.noted_mask, None, None)},
            select=select,
            seed=resolve_seed(self.random_state),
            mod=mod,
        )
        flags = read(data, Slot.parse(select, mod)) if isinstance(select, str) else select
        genes = owner.var_names[np.asarray(flags)]
        table = pd.DataFrame(read(data, Slot.parse(RESIDUALS, mod)), index=owner.obs_names, columns=genes, copy=False)
        assign(data, {Slot.parse(f"{NOTE}/pearson_residuals_df", mod): table})

    def of_genes(self, chosen: AnnData) -> AnnData:
        """Residuals in ``X`` and components, written and recorded in an object of the selected genes."""
        normalize_pearson_residuals(chosen, theta=self.theta, clip=self.clip, check_values=self.check_values)
        pca(chosen, n_comps=self.n_comps, random_state=self.random_state, **self.kwargs_pca)
        return chosen


@contextmanager
def all_or_nothing(data: AnnData | MuData, mod: str | None) -> Iterator[None]:
    """Several steps, none of which is left behind if one fails."""
    owner = holder(data, Slot.parse("X", mod))
    places = [(one, name) for one in {id(data): data, id(owner): owner}.values() for name in ("uns", "obsm", "varm")]
    before = [dict(getattr(one, name)) for one, name in places]
    var = owner.var.copy()
    try:
        yield
    except BaseException:
        for (one, name), values in zip(places, before, strict=True):
            mapping = getattr(one, name)
            for key in [key for key in mapping if key not in values]:
                del mapping[key]
            for key in [key for key, value in values.items() if mapping.get(key) is not value]:
                mapping[key] = values[key]
        owner.var = var
        raise
