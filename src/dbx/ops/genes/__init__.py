"""Choosing and scoring genes."""
