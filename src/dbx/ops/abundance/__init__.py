"""Abundances of transcripts from fragments that are compatible with several of them."""
