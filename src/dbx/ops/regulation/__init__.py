"""Gene regulatory networks."""
