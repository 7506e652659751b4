"""Generative models of counts."""
