"""Nearest neighbours and the weights of their edges."""
