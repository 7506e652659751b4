"""Tests, independent filtering, shrinkage and tables."""
