"""Examples of every operator, a module for each operator or family; a module lists its own in ``EXAMPLES``."""
