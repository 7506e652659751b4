"""Linear decompositions."""
