"""One embedding for several batches."""
