"""Objectives, pure JAX: for ``dbx.optimize`` and for one's own training loops."""

__all__: list[str] = []
