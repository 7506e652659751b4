"""Results as tidy tables."""

__all__: list[str] = []
