"""Cells or genes drawn at random."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dbx.ops.quality.sample import Sample
from dbx.pp._arrays import is_array, refuse_for_arrays
from dbx.program import Drawn, Slot, check_removable, holder, read, run_step

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData
    from scipy.sparse import csc_matrix, csr_matrix

AXES: dict[Any, Literal["obs", "var"]] = {"obs": "obs", 0: "obs", "var": "var", 1: "var"}


def sample(
    data: AnnData | MuData | np.ndarray | csr_matrix | csc_matrix,
    fraction: float | None = None,
    *,
    n: int | None = None,
    rng: Any = None,
    copy: bool = False,
    replace: bool = False,
    axis: Literal["obs", 0, "var", 1] = "obs",
    p: str | np.ndarray | None = None,
    mod: str | None = None,
) -> AnnData | MuData | tuple[Any, np.ndarray] | None:
    """Draw cells or genes at random.

    scanpy's function draws; the step is recorded with its settings. No new cells are drawn; of drawn genes the names
    are recorded, and ``dbx.rerun(query, reference, filter_cells=True)`` keeps the same. As :func:`scanpy.pp.sample`.

    Parameters
    ----------
    data
        Annotated data, or a plain array, of which the drawn part is returned with the numbers of its rows.
    fraction
        Fraction of the cells or genes to draw.
    n
        Number to draw, instead of a fraction.
    rng
        Seed or generator.
    copy
        Return the drawn part instead of changing ``data``.
    replace
        Draw with replacement.
    axis
        Draw cells (``"obs"``) or genes (``"var"``).
    p
        Probabilities or a boolean mask: an array, or the name of a column.
    mod
        Modality of a MuData.

    Returns
    -------
    None, the drawn part if ``copy=True``, or (part, numbers of rows) of a plain array.

    Raises
    ------
    TypeError
        Neither or both of ``fraction`` and ``n`` were given.
    ValueError
        The fraction is out of range, more are wanted than there are, or there is no such axis.
    """
    import scanpy as sc

    if is_array(data):
        refuse_for_arrays(mod=mod)
        return sc.pp.sample(data, fraction, n=n, rng=rng, copy=copy, replace=replace, axis=axis, p=p)
    if axis not in AXES:
        msg = f"axis must be 'obs', 0, 'var' or 1; got {axis!r}."
        raise ValueError(msg)
    where = AXES[axis]
    size = holder(data, Slot("X", mod=mod)).shape[0 if where == "obs" else 1]
    weights = np.asarray(read(data, Slot(where, (p,), mod))) if isinstance(p, str) else p
    _, drawn = sc.pp.sample(np.arange(size)[:, None], fraction, n=n, rng=rng, replace=replace, axis=0, p=weights)
    named = p if isinstance(p, str) else None if p is None else "array"
    settings = {"fraction": fraction, "n": n, "replace": replace, "axis": where, "p": named}
    operator: Any = Sample.declared(settings)(**settings)
    if where == "var":
        operator.keep(np.isin(np.arange(size), drawn))
    return recorded(data, operator, drawn, copy, mod, "sample")


def recorded(data: Any, operator: Sample, drawn: np.ndarray, copy: bool, mod: str | None, name: str) -> Any:
    """Keep what was drawn, and record that it was."""
    if not copy:
        check_removable(data, mod)
    cut = Drawn(drawn, None) if operator.axis == "obs" else Drawn(None, drawn)
    return run_step(data, operator, reads={}, writes={}, name=name, copy=copy, mod=mod, cut=cut)
