"""Preprocessing by Pearson residuals."""

from typing import TYPE_CHECKING

from dbx._lazy import lazy

if TYPE_CHECKING:
    from dbx.experimental.pp.highly_variable_genes import highly_variable_genes
    from dbx.experimental.pp.normalize_pearson_residuals import normalize_pearson_residuals
    from dbx.experimental.pp.normalize_pearson_residuals_pca import normalize_pearson_residuals_pca
    from dbx.experimental.pp.recipe_pearson_residuals import recipe_pearson_residuals

__all__ = [
    "highly_variable_genes",
    "normalize_pearson_residuals",
    "normalize_pearson_residuals_pca",
    "recipe_pearson_residuals",
]

lazy(__name__, {name: name for name in __all__})
