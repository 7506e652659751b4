"""Artefacts of droplets: ambient RNA and doublets."""
