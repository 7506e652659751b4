"""Harmony, and Symphony's mapping of new cells."""
