"""Analytic Pearson residuals, under scanpy's name."""

from dbx.pp.normalize_pearson_residuals import normalize_pearson_residuals

__all__ = ["normalize_pearson_residuals"]
