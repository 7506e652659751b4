"""Formulas, design matrices and contrasts; tables of samples."""
