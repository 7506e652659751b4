"""Addresses inside AnnData and MuData, and the values there."""
