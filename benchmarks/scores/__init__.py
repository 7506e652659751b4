"""dbx as the scorers call it: one module for each, with ``run`` as the scorer's docstring wants it."""
