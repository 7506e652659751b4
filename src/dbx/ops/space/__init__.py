"""Cells with positions in tissue."""
