"""Cells as ranked lists of genes."""
