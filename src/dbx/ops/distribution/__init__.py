"""Distributions of genes in two conditions: tests, normal mixtures and classes of differences."""
