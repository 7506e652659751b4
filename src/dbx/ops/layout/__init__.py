"""Two- and three-dimensional layouts."""
