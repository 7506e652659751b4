"""The step of tl.mmd and tl.wgan."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dbx.program import matrix_slot, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from dbx.ops.batch.batch_correction import BatchCorrection


def correct(
    adata: AnnData | MuData,
    operator: BatchCorrection,
    *,
    batch_key: str,
    layer: str | None,
    key_added: str,
    seed: int,
    copy: bool,
    mod: str | None,
) -> AnnData | MuData | None:
    """Fit the operator on counts and batches; write latent coordinates, history and params."""
    key = operator.name if key_added == f"X_{operator.name}" else key_added
    params = {"batch_key": batch_key, "layer": layer, "likelihood": operator.likelihood, "strength": operator.strength}
    return run_step(
        adata,
        operator,
        reads={"x": matrix_slot(layer), "batch": f"obs/{batch_key}"},
        writes={"z": f"obsm/{key_added}", "history": f"uns/{key}/history"},
        constants={f"uns/{key}/params": {k: v for k, v in params.items() if v is not None}},
        seed=seed,
        copy=copy,
        mod=mod,
    )
