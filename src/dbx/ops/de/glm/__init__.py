"""Negative binomial regression of many genes at once."""
