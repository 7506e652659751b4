"""Groups of cells."""
