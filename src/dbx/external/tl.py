"""Tools of ``scanpy.external``: none is a step of dbx, and each name says so."""

from dbx._lazy import lazy

__all__: list[str] = []

lazy(__name__, {}, scanpys="refused")
