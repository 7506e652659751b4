"""Trained networks on DNA and RNA sequences."""
