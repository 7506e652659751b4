"""Optimal transport between cells of two times."""
