"""What scanpy has in its namespace of the same name."""

from dbx.experimental import pp

__all__ = ["pp"]
