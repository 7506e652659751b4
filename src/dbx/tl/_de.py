"""What tl.de reads and writes in AnnData, and the messages about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dbx.ops.de.design.design import variables
from dbx.ops.de.design.group_designs import SHOWN
from dbx.ops.de.settings import SIZE_FACTORS
from dbx.program import Slot, holder, log
from dbx.program.record.inputs import trace
from dbx.program.record.registry import load

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from dbx.ops.de.nb_glm import NBGLM

LIKELY_CELLS = 100
"""Observations from which on they may be cells."""
OWN = "size_factors"
"""The column of obs with the samples' size factors."""


def design_frame(design: pd.DataFrame | np.ndarray, samples: pd.Index) -> pd.DataFrame:
    """A design matrix with the names of samples and coefficients.

    Raises
    ------
    ValueError
        It is not a matrix of numbers, or lacks a sample.
    """
    if not isinstance(design, pd.DataFrame):
        try:
            values = np.asarray(design, np.float64)
        except (TypeError, ValueError):
            values = None
        if values is None or design is None:
            msg = (
                'design must be a formula such as "~ batch + condition", or a matrix of numbers with a row for each '
                f"sample; got {design!r}."
            )
            raise ValueError(msg)
        if values.ndim != 2 or len(values) != len(samples):
            msg = f"A design matrix has a row for each of the {len(samples)} samples; its shape is {values.shape}."
            raise ValueError(msg)
        return pd.DataFrame(values, index=samples, columns=[f"x{i}" for i in range(values.shape[1])])
    missing = samples.difference(design.index)
    if len(missing) or not design.index.is_unique:
        what = f"lacks {len(missing)} samples ({missing[0]!r} ...)" if len(missing) else "has samples twice"
        msg = f"The design matrix {what}: its index must be adata.obs_names."
        raise ValueError(msg)
    return design.loc[samples].astype(np.float64)


def check_keys(sample_key: str | None, group_key: str | None, design: Any) -> None:
    """Refuse keys that cannot be combined."""
    if group_key is not None and sample_key is None:
        msg = f"group_key={group_key!r} needs sample_key, the column with the sample of each cell."
        raise ValueError(msg)
    if sample_key is not None and not isinstance(design, str):
        msg = "With sample_key the design is a formula over columns of obs: the samples are made here."
        raise ValueError(msg)


def read_slots(operator: NBGLM, counts: str, sample_key: str | None, group_key: str | None) -> dict[str, Any]:
    """Slots of the operator's inputs."""
    formulas = [text for text in (operator.design, operator.reduced) if isinstance(text, str)]
    columns = [name for formula in formulas for name in variables(formula)]
    columns += [] if operator.size_factors in SIZE_FACTORS else [operator.size_factors]
    reads: dict[str, Any] = {"counts": counts}
    if columns:
        reads["frame"] = [f"obs/{name}" for name in dict.fromkeys(columns)]
    keys = {"sample": sample_key, "group": group_key}
    return reads | {name: f"obs/{key}" for name, key in keys.items() if key is not None}


def written_slots(operator: NBGLM, key: str, sample_key: str | None) -> dict[str, str]:
    """Slots of its outputs."""
    writes = {"params": f"uns/{key}/params", "facts": f"uns/{key}/fit"}
    if operator.group_key is None:
        writes |= {"table": f"varm/{key}", "fit_table": f"varm/{key}_fit"}
    else:
        writes["long_table"] = f"uns/{key}/results"
    if sample_key is not None:
        writes["samples"] = f"uns/{key}/samples"
    elif operator.size_factors != OWN:
        writes["own_size_factors" if operator.size_factors == "iterate" else "size_factors"] = f"obs/{OWN}"
    return writes


def foreign_size_factors(adata: AnnData | MuData, writes: dict[str, str], mod: str | None) -> pd.Series | None:
    """Size factors that are about to be replaced, where no recorded step wrote them."""
    slot = Slot("obs", (OWN,), mod)
    obs = holder(adata, slot).obs
    if OWN not in obs or f"obs/{OWN}" not in writes.values():
        return None
    return obs[OWN].copy() if trace(adata, load(adata), slot, obs[OWN]).source is None else None


def warn_of_cells(n_obs: int) -> None:
    """Warn if the rows tested as samples may be cells."""
    if n_obs >= LIKELY_CELLS:
        log.warn(
            f"{n_obs} observations are tested as if each were a separate sample. If they are cells, they are "
            "not replicates, and p-values are too small: pass the column of their samples (sample_key=)."
        )


def report(adata: AnnData, key: str, alpha: float, replaced: pd.Series | None) -> None:
    """Log the number of significant genes, and warn of problems."""
    if replaced is not None and not _same(replaced, adata.obs[OWN]):
        log.warn(
            f"obs[{OWN!r}] held values from elsewhere and now holds the size factors of dbx.tl.de. To use your own, "
            'put them into another column and name it: size_factors="my_factors".'
        )
    grouped = "results" in adata.uns[key]
    table, fit = adata.uns[key]["results"] if grouped else adata.varm[key], adata.uns[key]["fit"]
    called = table["padj"] < alpha
    up = int((called & (table["log2FoldChange"] > 0)).sum())
    where = f" in {table['group'].nunique()} groups" if grouped else ""
    log.hint(
        f"    {int(called.sum())} of {len(table)} genes have padj < {alpha}{where}: "
        f"{up} up, {int(called.sum()) - up} down"
    )
    if not grouped and fit["note"]:
        log.warn(fit["note"])
    skipped: Any = fit[fit["trend"] == "none"] if grouped else []
    if len(skipped):
        shown = skipped.iloc[:SHOWN]
        reasons = "; ".join(f"{group}: {note}" for group, note in zip(shown["group"], shown["note"], strict=True))
        more = f" ... All are in uns[{key!r}]['fit']." if len(skipped) > SHOWN else ""
        log.warn(f"{len(skipped)} groups could not be tested. {reasons}{more}")


def _same(old: pd.Series, new: pd.Series) -> bool:
    numbers = pd.to_numeric(old, errors="coerce").to_numpy(np.float64)
    return bool(np.allclose(numbers, new.to_numpy(np.float64)))
