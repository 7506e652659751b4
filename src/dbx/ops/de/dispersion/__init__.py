"""Dispersions: gene-wise estimates, trend, prior, posterior."""
