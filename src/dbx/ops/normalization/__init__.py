"""Depth, logarithm and scale of counts."""
