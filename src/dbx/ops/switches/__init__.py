"""Genes that switch on or off along pseudotime."""
