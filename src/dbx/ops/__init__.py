"""The operator core: pure JAX and NumPy, free of AnnData and scanpy."""
