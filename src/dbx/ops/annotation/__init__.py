"""Cell types."""
