"""Tests of genes between groups."""
