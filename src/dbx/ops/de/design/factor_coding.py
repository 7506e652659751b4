"""How a design codes the levels of its factors."""

from __future__ import annotations

import numpy as np

from dbx.ops.de.design.design import Design
from dbx.ops.de.design.formula import columns_of


def factor_coding(design: Design, factor: str) -> dict[str, np.ndarray]:
    """Level -> its row of the design, with other factors at their reference and covariates at their mean."""
    import pandas as pd

    levels = list(design.frame[factor].cat.categories)
    references = reference_levels(design)
    rows = {}
    for name, column in design.frame.items():
        if name == factor:
            rows[name] = pd.Categorical(levels, levels)
        elif hasattr(column, "cat"):
            rows[name] = pd.Categorical([references[name]] * len(levels), column.cat.categories)
        else:
            rows[name] = np.full(len(levels), column.mean())
    coded = design.spec.get_model_matrix(pd.DataFrame(rows))
    return dict(zip(levels, np.asarray(coded, np.float64), strict=True))


def reference_levels(design: Design) -> dict[str, str]:
    """Factor -> the level that its treatment coding compares with; the first where the coding has none."""
    references = {name: str(design.frame[name].cat.categories[0]) for name in factors(design)}
    return references | {name: reference for name, _, _, reference in codings(design) if reference is not None}


def factors(design: Design) -> list[str]:
    """Columns of the design that are factors."""
    return [] if design.frame is None else [name for name in design.frame if hasattr(design.frame[name], "cat")]


def codings(design: Design) -> list[tuple[str, str, list[str], str | None]]:
    """(column, expression, levels, reference) of each factor of the formula; no reference but for treatment coding."""
    from formulaic.transforms.contrasts import TreatmentContrasts

    found = []
    for factor, state in [] if design.spec is None else design.spec.factor_contrasts.items():
        columns = {name for name, _ in columns_of(factor)} & set(factors(design))
        if len(columns) == 1:
            levels, reference = list(map(str, state.levels)), None
            if isinstance(state.contrasts, TreatmentContrasts):
                compared = set(map(str, state.contrasts.get_coding_column_names(list(state.levels))))
                reference = next(level for level in levels if level not in compared)
            found.append((columns.pop(), factor.expr, levels, reference))
    return found
