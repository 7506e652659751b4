"""Diffusion on graphs of cells: kernels, Markov operators, their spectra, and what is built on them.

``kernel`` makes an alpha-decay kernel of coordinates, ``markov`` random walks of a kernel, ``spectrum`` their leading
eigenpairs. All are functions of arrays and CSR matrices on the host, in float64, and never hold cells x cells densely.
"""
