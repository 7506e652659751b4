"""Ligands, receptors and what cells make of them."""
