"""Addresses inside AnnData and MuData, and what lies there."""
